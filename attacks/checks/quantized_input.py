"""Find scores that are piecewise constant in the image."""

import torch
from torch import Tensor

from robustcl.attacks.checks.flag import Flag
from robustcl.attacks.checks.subject import Subject

TINY = 1e-6  # pixel units: 1/4000 of a cell of 8 bits
PIXELS = 64  # pixels moved, so few that hardly any crosses the edge of its cell
LARGE = 0.25
RATIO = 1e-11  # of the large move: the last bits of float64 do not count as one
SHARE = 0.5  # of the images, since one may lie on a plateau by chance


def constant(exact: Subject, *, logarithm: bool = False) -> Tensor:
    """Find images whose scores a tiny change does not move, though a large one does.

    Only values are compared, so that a gradient that is made up does not help.

    Args:
        exact: Model and images in float64.
        logarithm: Whether to look at the logarithm of the scores, in which probabilities that
            have saturated still move.

    Returns:
        (B,) whether no score moves.
    """
    points = exact.generic()
    signs = exact.noise("signs").sign()
    order = exact.noise("pixels").flatten(1).argsort(dim=1)
    few = (order < PIXELS).view_as(points)
    changes = (TINY * signs * few, LARGE * signs)
    with torch.no_grad():
        base, tiny, large = (
            exact.scores_at(moved.clamp(0.0, 1.0))
            for moved in (points, *(points + change for change in changes))
        )
    if logarithm:
        base, tiny, large = (scores.clamp_min(1e-300).log() for scores in (base, tiny, large))
    moves = [(scores - base).abs().amax(dim=1) for scores in (tiny, large)]
    return (moves[1] > 0) & (moves[0] <= RATIO * moves[1])


def quantized_input(still: Tensor) -> Flag | None:
    """Judge by how many images have scores that are constant around them.

    Args:
        still: (B,) from `constant`.

    Returns:
        The flag 'quantized_input' with these images where they are more than half, or None.
    """
    rows = torch.nonzero(still)[:, 0].tolist()
    if len(rows) <= SHARE * len(still):
        return None
    return Flag(
        "quantized_input",
        f"On {len(rows)} of {len(still)} images no score changes when pixels change by {TINY:g}: "
        "the input is rounded (fewer bits, JPEG, ...). The true gradient is zero there, and one "
        "that is put in its place may mislead; attack the model without rounding and try what "
        "was found on the model with it.",
        tuple(rows),
        11,
    )
