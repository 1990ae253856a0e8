"""Set this toolkit's search for the nearest point beside attacks of torchattacks."""

from functools import partial

import torch
from torch import Tensor

from robustcl.core.choices import Norm
from robustcl.studies.peers.comparison import (
    Comparison,
    ComparisonInputs,
    compare_programs,
    import_peer,
    named,
)
from robustcl.studies.peers.nearest import (
    Points,
    our_points,
    reference_fab,
    torchattacks_points,
    verified_norms,
)

_MOST_REPEATS = 3
FARTHER = 1.01  # mean of the ratios of radii above which ours is not as good


def compare_torchattacks(inputs: ComparisonInputs) -> list[Comparison]:
    """Compare mean radii, then time, of `boundary_walk` with three attacks and the reference FAB.

    Args:
        inputs: Model and images.

    Returns:
        One comparison per attack, in L2; FAB in both norms.
    """
    import_peer("torchattacks", cure='pip install ".[torchattacks]"')
    theirs: list[tuple[str, str, Norm, Points]] = [
        ("FAB, 100 steps", "torchattacks", "l2", _of_package("FAB", steps=100)),
        ("FAB, 100 steps", "torchattacks", "linf", _of_package("FAB", steps=100)),
        ("CW, c=10, 500 steps", "torchattacks", "l2", _of_package("CW", c=10, steps=500)),
        ("DeepFool", "torchattacks", "l2", _of_package("DeepFool")),
        ("FAB", "pyautoattack", "l2", reference_fab),
        ("FAB", "pyautoattack", "linf", reference_fab),
    ]
    return [_compared(inputs, *entry) for entry in theirs]


def _of_package(name: str, **options: float) -> Points:
    return partial(torchattacks_points, name, **options)


def _compared(
    inputs: ComparisonInputs, name: str, package: str, norm: Norm, theirs: Points
) -> Comparison:
    images = inputs.test.batch(range(len(inputs.test))).images.to(inputs.device)
    with torch.no_grad():
        left = inputs.model(images).argmax(dim=1)

    def norms(points: Points) -> Tensor:
        found = points(inputs.model, images, left, norm)
        return verified_norms(inputs.model, images, found, left, norm)

    return compare_programs(
        inputs,
        f"boundary_walk against {name}, {norm}, {len(images)} images",
        named(package),
        ours=partial(norms, partial(our_points, "boundary_walk")),
        theirs=partial(norms, theirs),
        agreement=_agreement,
        most_repeats=_MOST_REPEATS,
    )


def _agreement(ours: Tensor, theirs: Tensor) -> tuple[bool, str]:
    both = ours.isfinite() & theirs.isfinite()
    missed = int((~ours.isfinite() & theirs.isfinite()).sum())
    counts = [int((~side.isfinite()).sum()) for side in (theirs, ours)]
    text = f"they missed {counts[0]} of {len(ours)} images, we {counts[1]}"
    if not bool(both.any()):
        return False, f"no image on which both found a point: {text}"
    mean = float((ours[both] / theirs[both]).mean())
    as_good = not missed and mean <= FARTHER
    return as_good, f"our radius over theirs {mean:.3f} in the mean; {text}"
