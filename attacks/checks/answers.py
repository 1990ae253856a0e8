"""Whether the answers of a model are what attacks expect."""

import torch
from torch import Tensor

from robustcl.attacks.checks.subject import Flag, Subject
from robustcl.attacks.forward_passes import generators_seeded
from robustcl.attacks.steps import column, no_win, random_start
from robustcl.core.threat import perturbation_norm

_TINY = 1e-6  # pixel units: 1/4000 of a cell of 8 bits
PIXELS = 64  # pixels moved, so few that hardly any crosses the edge of its cell
_LARGE = 0.25
RATIO = 1e-11  # of the large move: the last bits of float64 do not count as one
_SHARE = 0.5  # of the images, since one may lie on a plateau by chance


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
    changes = (_TINY * signs * few, _LARGE * signs)
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
    if len(rows) <= _SHARE * len(still):
        return None
    return Flag(
        "quantized_input",
        f"On {len(rows)} of {len(still)} images no score changes when pixels change by {_TINY:g}: "
        "the input is rounded (fewer bits, JPEG, ...). The true gradient is zero there, and one "
        "that is put in its place may mislead; attack the model without rounding and try what "
        "was found on the model with it.",
        tuple(rows),
        11,
    )


REPEATS = 5
_TOLERANCE = 1e-4  # of the largest gap between two scores of an image


def randomized(subject: Subject) -> Flag | None:
    """Call the model five times and compare the scores.

    Args:
        subject: Model and images.

    Returns:
        The flag 'randomized' with the images whose scores differ by more than 1e-4 of the largest
        gap between two classes, or None.

    Reference:
        Croce et al., Evaluating the Adversarial Robustness of Adaptive Test-time Defenses, ICML
        2022; the check of the reference AutoAttack.
    """
    with torch.no_grad(), generators_seeded(subject.seeds):
        repeats = torch.stack([subject.classifier(subject.images) for _ in range(REPEATS)])
    repeats = repeats.nan_to_num()
    spread = (repeats.amax(dim=0) - repeats.amin(dim=0)).amax(dim=1)
    gap = (repeats.amax(dim=2) - repeats.amin(dim=2)).max()
    rows = torch.nonzero(spread > _TOLERANCE * gap)[:, 0].tolist()
    if not rows:
        return None
    return Flag(
        "randomized",
        f"The model is randomized: on {len(rows)} of {len(spread)} images {REPEATS} calls give "
        f"scores that differ by up to {float(spread.max() / gap):.2g} of their range. Attack the "
        "mean over at least 20 draws (attacks.expectation, or autoattack:version=rand) and judge "
        "by fresh draws.",
        tuple(rows),
        8,
    )


def softmax_scores(subject: Subject) -> Flag | None:
    """Look whether the scores of every image are nonnegative and sum to 1.

    Args:
        subject: Model and images.

    Returns:
        The flag 'softmax_scores', or None.
    """
    scores = subject.scores
    sums = (scores.double().sum(dim=1) - 1.0).abs()
    if not bool((scores >= 0).all() and (sums < _TOLERANCE).all()):
        return None
    return Flag(
        "softmax_scores",
        "The scores look like probabilities: they are nonnegative and sum to 1. Their gradients "
        "vanish where the model is sure; give the scores before the softmax.",
        (),
        10,
    )


FIRST, LAST = 0.5, 0.1  # how much of a point is drawn anew, at the first and the last query


def random_search(subject: Subject, *, queries: int) -> Tensor:
    """Change the best point at random and keep what raises the margin. No gradients are used.

    For Linf, pixels are drawn anew from the two ends of the budget, ever fewer; for L2 and L1,
    noise is added, ever less, and the norm set back to the budget.

    Args:
        subject: Model, images and threat.
        queries: Forward passes.

    Returns:
        (B,) highest margins.

    Reference:
        Andriushchenko et al., Square Attack, ECCV 2020: the same greedy search, without squares.
    """
    images, threat = subject.images, subject.threat
    radii = column(threat.radii(images), images)
    best = torch.full((len(images),), -torch.inf, dtype=images.dtype, device=images.device)
    points = images
    for query in range(queries):
        share = FIRST * (LAST / FIRST) ** (query / max(queries - 1, 1))
        fresh = _surface(subject, query)
        if query and threat.norm == "linf":
            chosen = subject.noise(f"chosen {query}", kind="uniform").abs() < share
            fresh = torch.where(chosen, fresh, points)
        elif query:
            moved = points - images + share * (fresh - images)
            norms = perturbation_norm(moved, threat.norm).clamp_min(1e-30).to(moved)
            fresh = threat.project(images, images + radii * moved / column(norms, images))
        with torch.no_grad():
            margin = no_win(subject.margin(fresh))
        better = margin > best
        best = torch.where(better, margin, best)
        points = torch.where(column(better, images), fresh, points)
    return best


def _surface(subject: Subject, query: int) -> Tensor:
    # A random point at the end of the budget: a corner for Linf, else on the sphere.
    images, threat = subject.images, subject.threat
    if threat.norm != "linf":
        return random_start(images, threat, subject.seeds, run=query, purpose="checks")
    signs = subject.noise(f"corner {query}").sign()
    return threat.project(images, images + column(threat.radii(images), images) * signs)
