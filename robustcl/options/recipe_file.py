"""Read options of training from a TOML file."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Any, get_args, get_type_hints

from robustcl.core.errors import InputError
from robustcl.core.files import read_toml
from robustcl.core.schema import objection_to, objection_to_values
from robustcl.core.terminal import printable

_SHOWN = 60  # signs of a value in a message


def check_types(options: type, entries: Mapping[str, Any], where: str) -> None:
    """Refuse values of another type than the options have.

    Args:
        options: The dataclass whose fields are the options.
        entries: Values by the names of fields, as TOML gives them; a path is a text.
        where: The file or table, for the message.

    Raises:
        InputError: When a value is of another type, not finite, or beyond 64 bits.
    """
    hints = _hints(options)
    for name, value in entries.items():
        wrong = objection_to_values(value, where=name) or ""
        if not wrong:
            found = objection_to(hints[name], value)
            shown = repr(value)
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
            wrong = f"{name} is {shown}: {found}" if found else ""
        if wrong:
            raise InputError(
                f"{where}: {printable(wrong)}; write it as the help of the command says"
            )


@cache
def _hints(options: type) -> Mapping[str, Any]:
    found = {}
    for name, hint in get_type_hints(options).items():
        parts = get_args(hint)
        if hint is Path or Path in parts:
            hint = reduce(or_, (str if part is Path else part for part in parts or (hint,)))
        found[name] = hint
    return found


def with_recipe(words: Sequence[str], options: type) -> list[str]:
    """Put the options of the TOML file that --recipe names before the others.

    Args:
        words: The command line after 'train'.
        options: The dataclass whose fields are the options.

    Returns:
        The longer command line; where an option comes twice, the later counts.

    Raises:
        InputError: When the file is missing or not TOML, or a key or value is not an option.
    """
    place = next(
        (
            words[n + 1] if word == "--recipe" else word.partition("=")[2]
            for n, word in enumerate(words)
            if word.startswith("--recipe=") or (word == "--recipe" and n + 1 < len(words))
        ),
        None,
    )
    if place is None:
        return list(words)
    try:
        entries = read_toml(Path(place))
    except ValueError as error:
        raise InputError(
            f"--recipe {place!r} is not a readable TOML file: it {error}; give one with options of "
            "the command"
        ) from error
    known = {entry.name for entry in fields(options)} - {"recipe"}
    found: dict[str, Any] = {}
    for key, value in entries.items():
        name = key.replace("-", "_")
        if name not in known:
            raise InputError(
                f"unknown key {key[:60]!r} in {place!r}; known: {', '.join(sorted(known))}"
            )
        if name in found:
            raise InputError(f"{name!r} comes twice in {place!r}; keep one")
        found[name] = value
    check_types(options, found, repr(place))
    return [*(_word(name, value) for name, value in found.items()), *words]


def _word(name: str, value: str | float | bool) -> str:
    # In one word: a text that begins with a dash is no option.
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    return f"--{option}={value}"
