"""Keep the table of attacks."""

from collections.abc import Callable
from dataclasses import dataclass

from attacks.apgd import apgd
from attacks.autoattack import autoattack
from attacks.boundary_walk import boundary_walk
from attacks.ddn import ddn
from attacks.deepfool import deepfool
from attacks.embedding_shift import embedding_shift
from attacks.every_view import every_view
from attacks.finding import Search
from attacks.fmn import fmn
from attacks.noise import noise
from attacks.pgd import pgd
from attacks.surface import surface
from attacks.torchattacks import named_torchattack, torchattacks
from robustcl.specification import Specification, check_options, choose, parse_specification
from robustcl.threat import NORMS, Norm


@dataclass(frozen=True)
class Attack:
    """Describe an attack.

    Args:
        function: (objective, images, threat, *, seeds, ...) to a `Search`.
        claim: One line.
        reference: The paper.
        pads: Whether the attack wants batches of one fixed shape.
        fills: Whether the attack takes all images at once, with `batch_size`, and fills batches of
            this shape by itself, so that images that are won make room for others.
        minimum_norm: Whether the attack looks for the nearest winning point, so that one run
            within the largest budget does for all budgets.
        norms: The norms it is for.
    """

    function: Callable[..., Search]
    claim: str
    reference: str
    pads: bool = True
    fills: bool = False
    minimum_norm: bool = False
    norms: tuple[Norm, ...] = NORMS


ATTACKS: dict[str, Attack] = {
    "pgd": Attack(pgd, "projected gradient ascent, restarts", "Madry et al. 2018"),
    "apgd": Attack(
        apgd,
        "gradient ascent with momentum and steps halved when they stall; margin, CE, DLR, targeted",
        "Croce and Hein 2020",
        fills=True,
    ),
    "fmn": Attack(
        fmn,
        "nearest point: ascent within a ball fitted to the boundary",
        "Pintor et al. 2021",
        minimum_norm=True,
    ),
    "ddn": Attack(
        ddn,
        "nearest point in l2: ascent on a sphere fitted to the boundary",
        "Rony et al. 2019",
        minimum_norm=True,
        norms=("l2",),
    ),
    "deepfool": Attack(
        deepfool,
        "nearest point: steps to the nearest linearized boundary within the box",
        "Moosavi-Dezfooli et al. 2016",
        minimum_norm=True,
        norms=("l2", "linf"),
    ),
    "boundary_walk": Attack(
        boundary_walk,
        "nearest point: along the boundaries of up to nine rivals towards the image",
        "projection of Croce and Hein 2020 (FAB)",
        minimum_norm=True,
    ),
    "embedding_shift": Attack(
        embedding_shift,
        "label-free: the largest drift of the embedding",
        "Cemgil et al. 2020",
        fills=True,
    ),
    "surface": Attack(
        surface,
        "gradient ascent from several points on the surface of the ball",
        "Madry et al. 2018",
    ),
    "every_view": Attack(
        every_view,
        "multi-view models: the aggregate, every view, and transfer from the single view",
        "Tramer et al. 2020",
    ),
    "noise": Attack(noise, "baseline: random points in the ball", "Carlini et al. 2019"),
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
