"""Pair every row of the table of attacks with the attack that it describes."""

from collections.abc import Callable
from dataclasses import dataclass

from robustcl.attacks._torchattacks import named_torchattack
from robustcl.attacks.results import Candidates
from robustcl.core.choices import NORMS, Norm
from robustcl.core.lazy import declared
from robustcl.core.specification import Specification, check_options, choose, parse_specification
from robustcl.declarations.attacks import ATTACK_ROWS


@dataclass(frozen=True)
class Attack:
    """Describe an attack; the table of attacks is in `robustcl.declarations.attacks`.

    Args:
        function: (objective, images, threat, *, seeds, ...) to a `Candidates`.
        claim: One line.
        reference: The paper.
        pads: Whether the attack wants batches of one fixed shape.
        fills: Whether the attack takes all images at once, with `batch_size`, and fills batches of
            this shape by itself, so that images that are won make room for others.
        minimum_norm: Whether the attack looks for the nearest winning point, so that one run
            within the largest budget does for all budgets.
        norms: The norms it is for.
    """

    function: Callable[..., Candidates]
    claim: str
    reference: str
    pads: bool = True
    fills: bool = False
    minimum_norm: bool = False
    norms: tuple[Norm, ...] = NORMS


# An attack is the function of its file's name.
ATTACK_FUNCTIONS: dict[str, Callable[..., Candidates]] = {
    name: declared(f"attacks._{name}:{name}") for name in ATTACK_ROWS
}
ATTACKS: dict[str, Attack] = {
    name: Attack(ATTACK_FUNCTIONS[name], **vars(row)) for name, row in ATTACK_ROWS.items()
}


# Arguments that `run` supplies.
EXCLUDED = ("seeds", "batch_size", "starts")


def parse_attack(text: str) -> Specification:
    """Read an attack such as 'pgd:steps=100,restarts=5' or 'torchattacks:CW,steps=50'.

    A name that is unknown, or an option the attack does not take, is refused.

    Args:
        text: NAME or NAME:key=value,key=value.

    Returns:
        The specification.
    """
    foreign = named_torchattack(text)
    if foreign is not None:
        return foreign
    specification = parse_specification(text)
    choose(specification.name, ATTACKS, what="attack")
    check_options(specification, ATTACKS[specification.name].function, exclude=EXCLUDED)
    return specification
