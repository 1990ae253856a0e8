"""Attack by walking along the decision boundary towards the image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attacks.ddn import ddn
from attacks.deepfool import deepfool
from attacks.finding import Search
from attacks.fmn import fmn
from attacks.gradient import column, no_win, value_and_gradient
from attacks.nearest_found import Nearest, nearer, none_found
from attacks.nearest_on_plane import nearest_on_plane
from robustcl.errors import InputError
from robustcl.objectives import Objective
from robustcl.specification import choose
from robustcl.threat import Threat, perturbation_norm

BEGINNINGS: dict[str, Callable[..., Search]] = {"fmn": fmn, "ddn": ddn, "deepfool": deepfool}
TURNS = 3  # directions tried per gradient
BISECTIONS = 6  # along the ray of a direction that wins
ENDLESS = 1e30  # a budget that nothing exceeds
GAIN = 1e-6  # relative decrease of the norm below which a direction is no success
SHORTEST = 1e-4  # share of the way to the projection below which an image is given up


def boundary_walk(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    steps: int = 30,
    begin: str = "fmn",
    starts: Tensor | None = None,
    seeds: Sequence[int] | None = None,
) -> Search:
    """Start at a winning point and follow the boundary to where it is nearest to the image.

    Each step linearizes the margin at the nearest winning point, projects the image onto that
    plane within the pixel box (exactly), and turns towards the projection: fully, or less where the
    boundary bends away. Along the new direction, the boundary is bisected. Only points that win
    are kept, so the norm never rises.

    Args:
        objective: What is raised.
        images: (B, C, H, W) in the box.
        threat: The norm, the box, and the largest budgets that are of interest.
        steps: Most gradients along the way.
        begin: The attack that finds the first points: 'fmn', 'ddn' or 'deepfool'.
        starts: (B, C, H, W) first points instead; where they do not win there is no walk.
        seeds: Handed to the first attack.

    Returns:
        The nearest winning points, the image itself where there was none; gradients are those of
        the first attack and of the walk until it ended.

    Raises:
        InputError: When there are no steps, or the first attack is unknown.

    Reference:
        The projection is (3) of Croce and Hein, Minimally Distorted Adversarial Examples with a
        Fast Adaptive Boundary Attack, ICML 2020; steps and acceptance are our own.
    """
    if steps < 1:
        raise InputError(f"boundary_walk with steps={steps} does nothing; use 1 or more")
    first = BEGINNINGS[choose(begin, BEGINNINGS, what="first attack of boundary_walk")]
    if starts is None:
        search = first(objective, images, threat, seeds=seeds)
    else:
        search = Search(starts.to(images), torch.zeros(len(images), dtype=torch.int64))
    unbound = replace(threat, eps=ENDLESS)
    best = _tried(objective, images, search.candidates, none_found(images), unbound)
    best = _bisect(objective, images, _Ray(best.points - images, 0.0 * best.norms), best, unbound)
    share = torch.ones_like(best.norms)
    walking = best.norms.isfinite() & (best.norms > 0)
    spent = search.gradients.cpu().clone()
    for _ in range(steps):
        if not bool(walking.any()):
            break
        spent += walking.cpu()
        value, gradient = value_and_gradient(objective.margin, best.points)
        offset = (gradient.double() * (best.points - images).double()).flatten(1).sum(dim=1)
        goal = nearest_on_plane(
            images, gradient, offset - value.double(), norm=threat.norm, box=threat.box
        )
        before = best.norms
        best, share = _turn(objective, images, goal, best, share, walking, unbound)
        walking = walking & (best.norms > 0) & ((best.norms < before) | (share > SHORTEST))
    return Search(best.points, spent)


@dataclass(frozen=True, eq=False)
class _Ray:
    delta: Tensor  # (B, ...) directions, of any length
    low: Tensor  # (B,) norm at which nothing wins, or 0


def _turn(
    objective: Objective,
    images: Tensor,
    goal: Tensor,
    best: Nearest,
    share: Tensor,
    walking: Tensor,
    threat: Threat,
) -> tuple[Nearest, Tensor]:
    # Try a share of the way from the best perturbation to the goal, less where it fails.
    old, open_ = best, walking
    for _ in range(TURNS):
        way = column(share, images).to(images)
        delta = (old.points - images) * (1.0 - way) + goal * way
        low = perturbation_norm(delta, threat.norm)
        # On the ray, the middle between the plane and the best norm leaves room for a boundary
        # that bends away, and is nearer all the same.
        target = torch.minimum(old.norms * (1.0 - GAIN), (low + old.norms) / 2.0)
        points = _at(images, delta, target, threat)
        tried = _tried(objective, images, points, best, threat)
        better = open_ & (tried.norms < best.norms * (1.0 - GAIN / 2.0))
        best = _chosen(better, tried, best, images)
        ray = _Ray(delta, torch.where(better, 0.9 * low, best.norms))
        best = _chosen(better, _bisect(objective, images, ray, best, threat), best, images)
        share = torch.where(better, (2.0 * share).clamp(max=1.0), share)
        open_ = open_ & ~better
        share = torch.where(open_, share / 4.0, share)
        if not bool(open_.any()):
            break
    return best, share


def _bisect(
    objective: Objective, images: Tensor, ray: _Ray, best: Nearest, threat: Threat
) -> Nearest:
    # Between a norm that need not win and the best one, which lies on the ray.
    low, high = torch.minimum(ray.low, best.norms), best.norms
    for _ in range(BISECTIONS):
        middle = torch.where(high.isfinite(), (low + high) / 2.0, 0.0)
        tried = _tried(objective, images, _at(images, ray.delta, middle, threat), best, threat)
        won = tried.norms < best.norms
        best = tried
        high, low = torch.where(won, middle, high), torch.where(won, low, middle)
    return best


def _at(images: Tensor, delta: Tensor, norms: Tensor, threat: Threat) -> Tensor:
    length = perturbation_norm(delta, threat.norm).clamp_min(1e-300)
    factor = column((norms / length).nan_to_num(0.0, 0.0, 0.0), images)
    points = images + (delta.double() * factor).to(images)
    return points if threat.box is None else points.clamp(*threat.box)


def _tried(
    objective: Objective, images: Tensor, points: Tensor, best: Nearest, threat: Threat
) -> Nearest:
    with torch.no_grad():
        margin = no_win(objective.margin(points))
    return nearer(best, images, points, margin, threat)


def _chosen(better: Tensor, new: Nearest, old: Nearest, images: Tensor) -> Nearest:
    return Nearest(
        torch.where(column(better, images), new.points, old.points),
        torch.where(better, new.norms, old.norms),
    )
