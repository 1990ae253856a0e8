"""Keep the table of attacks: one row per attack."""

from dataclasses import dataclass

from robustcl.core.choices import NORMS, Norm


@dataclass(frozen=True)
class AttackRow:
    """Describe an attack.

    Args:
        claim: One line.
        reference: The paper.
        pads: Whether the attack wants batches of one fixed shape.
        fills: Whether the attack takes all images at once, with `batch_size`, and fills batches of
            this shape by itself, so that images that are won make room for others.
        minimum_norm: Whether the attack looks for the nearest winning point, so that one run
            within the largest budget does for all budgets.
        norms: The norms it is for.
    """

    claim: str
    reference: str
    pads: bool = True
    fills: bool = False
    minimum_norm: bool = False
    norms: tuple[Norm, ...] = NORMS


ATTACK_ROWS: dict[str, AttackRow] = {
    "pgd": AttackRow(
        "projected gradient ascent, restarts",
        "Madry et al. 2018",
    ),
    "apgd": AttackRow(
        "gradient ascent with momentum and steps halved when they stall; margin, CE, DLR, targeted",
        "Croce and Hein 2020",
        fills=True,
    ),
    "fmn": AttackRow(
        "nearest point: ascent within a ball fitted to the boundary",
        "Pintor et al. 2021",
        minimum_norm=True,
    ),
    "ddn": AttackRow(
        "nearest point in l2: ascent on a sphere fitted to the boundary",
        "Rony et al. 2019",
        minimum_norm=True,
        norms=("l2",),
    ),
    "deepfool": AttackRow(
        "nearest point: steps to the nearest linearized boundary within the box",
        "Moosavi-Dezfooli et al. 2016",
        minimum_norm=True,
        norms=("l2", "linf"),
    ),
    "boundary_walk": AttackRow(
        "nearest point: along the boundaries of up to nine other classes towards the image",
        "projection of Croce and Hein 2020 (FAB)",
        minimum_norm=True,
    ),
    "embedding_shift": AttackRow(
        "label-free: the largest drift of the embedding",
        "Cemgil et al. 2020",
        fills=True,
    ),
    "surface": AttackRow(
        "gradient ascent from several points on the surface of the ball",
        "Madry et al. 2018",
    ),
    "every_view": AttackRow(
        "multi-view models: the aggregate, every view, and transfer from the single view",
        "Tramer et al. 2020",
    ),
    "noise": AttackRow(
        "baseline: random points in the ball",
        "Carlini et al. 2019",
    ),
    "autoattack": AttackRow(
        "reference AutoAttack: APGD, targeted APGD, FAB, Square",
        "Croce and Hein 2020",
        pads=False,
    ),
    "torchattacks": AttackRow(
        "any attack of the package torchattacks, as in torchattacks:CW,steps=50",
        "Kim 2020",
        pads=False,
    ),
}
