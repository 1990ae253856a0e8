"""Search at random, as a black-box adversary would."""

import torch
from torch import Tensor

from robustcl.attacks.checks.subject import Subject
from robustcl.attacks.gradient import column, no_win
from robustcl.attacks.random_start import random_start
from robustcl.core.threat import perturbation_norm

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
