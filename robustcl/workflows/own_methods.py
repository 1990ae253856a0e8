"""Let attacks and certificates of the caller stand beside those of the tables, for one audit."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from robustcl.attacks.methods import ATTACKS, Attack
from robustcl.attacks.results import Candidates
from robustcl.certify.methods import METHODS, Method
from robustcl.core.errors import InputError
from robustcl.core.specification import split_specifications

OwnAttack = Callable[..., Candidates]


@contextmanager
def own_methods(
    methods: str | Sequence[str | Method], attacks: str | Sequence[str | OwnAttack]
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Enter the caller's own methods into the tables, and take them out again.

    Args:
        methods: Certificates by name, or a `Method`: a row of the table of claims with the function
            that computes it.
        attacks: Attacks by name, or functions (objective, images, threat, *, seeds) to
            `Candidates`; whatever they propose is projected and measured again.

    Yields:
        The names of both.

    Raises:
        InputError: When one has the name of another, or no name.
    """
    added: list[tuple[dict, str]] = []
    try:
        named = [
            _entered(METHODS, one.name, one, added) if isinstance(one, Method) else one
            for one in _parts(methods)
        ]
        called = [
            one if isinstance(one, str) else _entered(
                ATTACKS, getattr(one, "__name__", ""), Attack(one, "of the caller", ""), added)
            for one in _parts(attacks)
        ]  # fmt: skip
        yield tuple(named), tuple(called)
    finally:
        for table, name in added:
            del table[name]


def _parts(given: str | Sequence) -> tuple:
    if isinstance(given, str):
        return split_specifications(given) if given else ()
    return tuple(given)


def _entered(table: dict, name: str, entry: object, added: list[tuple[dict, str]]) -> str:
    if not name.isidentifier():
        raise InputError(f"{name!r} is no name for a method of one's own; define it with def NAME")
    if name in table:
        raise InputError(f"there is a method called {name!r} already; give yours another name")
    table[name] = entry
    added.append((table, name))
    return name
