"""Keep the table of attacks."""

from collections.abc import Callable
from dataclasses import dataclass

from attacks.autoattack import autoattack
from attacks.finding import Search
from attacks.pgd import pgd
from attacks.torchattacks import named_torchattack, torchattacks
from robustcl.specification import Specification, check_options, choose, parse_specification


@dataclass(frozen=True)
class Attack:
    """Describe an attack.

    Args:
        function: (objective, images, threat, *, seeds, ...) to a `Search`.
        claim: One line.
        reference: The paper.
        pads: Whether the attack wants batches of one fixed shape.
    """

    function: Callable[..., Search]
    claim: str
    reference: str
    pads: bool = True


ATTACKS: dict[str, Attack] = {
    "pgd": Attack(pgd, "projected gradient ascent, restarts", "Madry et al. 2018"),
    "autoattack": Attack(
        autoattack,
        "reference AutoAttack: APGD, targeted APGD, FAB, Square",
        "Croce and Hein 2020",
        pads=False,
    ),
    "torchattacks": Attack(
        torchattacks,
        "any attack of the package torchattacks, as in torchattacks:CW,steps=50",
        "Kim 2020",
        pads=False,
    ),
}


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
    check_options(specification, ATTACKS[specification.name].function, exclude=("seeds",))
    return specification
