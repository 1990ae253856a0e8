"""Attack by walking along the decision boundary towards the image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustcl.attacks._ddn import ddn
from robustcl.attacks._deepfool import deepfool, fool
from robustcl.attacks._fmn import fit_ball, fmn
from robustcl.attacks.nearest import ENDLESS, Nearest, nearer, nearest, none_found
from robustcl.attacks.nearest_on_plane import nearest_on_plane
from robustcl.attacks.other_classes import logit_differences, others_by_distance
from robustcl.attacks.results import Candidates
from robustcl.attacks.steps import column, no_win, value_and_gradient
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective
from robustcl.core.specification import choose
from robustcl.core.threat import Threat, perturbation_norm

BEGINNINGS: dict[str, Callable[..., Candidates]] = {
    "rivals": deepfool,
    "fmn": fmn,
    "ddn": ddn,
    "deepfool": deepfool,
}
_RIVALS = 9  # at which the first points are looked for
TURNS = 3  # directions tried per gradient
_BISECTIONS = 6  # along the ray of a direction that wins
SHORT_WALK = 10  # gradients per other class, before the nearest point found is walked on
POLISH_SHARE, POLISH_GAMMA = 0.5, 0.02
GAIN = 1e-6  # relative decrease of the norm below which a direction is no success
SHORTEST = 1e-4  # share of the way to the projection below which an image is given up


def boundary_walk(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    *,
    steps: int = 30,
    begin: str = "rivals",
    polish: int = 40,
    starts: Tensor | None = None,
    seeds: Sequence[int] | None = None,
) -> Candidates:
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
        begin: What finds the first points: 'other classes', which is DeepFool's steps to each
            other class by itself, up to nine, and a short walk from each; or 'fmn', 'ddn',
            'deepfool'.
        polish: Steps of `fmn` with a small ball's change at the end, since a walk comes to a halt
            where the boundary has an edge. They also look from the image where nothing was found.
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
    if steps < 1 or polish < 0:
        raise InputError(
            f"boundary_walk with steps={steps}, polish={polish}; use 1 or more steps and 0 or more "
            "to polish"
        )
    choose(begin, BEGINNINGS, what="first attack of boundary_walk")
    begun, spent = _begin(objective, images, threat, begin, starts, seeds)
    best = none_found(images)
    rough = min(steps, SHORT_WALK) if len(begun) > 1 else steps
    for points in begun:
        walked, cost = _walk(objective, images, points, threat, rough)
        best, spent = nearest(best, walked), spent + cost
    if len(begun) > 1:
        best, cost = _walk(objective, images, best.points, threat, steps)
        spent += cost
    if polish:
        schedule = (polish, POLISH_SHARE, POLISH_GAMMA)
        best = fit_ball(objective, objective.margin, images, threat, schedule, best)
    return Candidates(best.points, spent + polish)


def _begin(
    objective: Objective,
    images: Tensor,
    threat: Threat,
    begin: str,
    starts: Tensor | None,
    seeds: Sequence[int] | None,
) -> tuple[list[Tensor], Tensor]:
    # Points at which a walk may begin, several for each image, and the gradients spent on them.
    spent = torch.zeros(len(images), dtype=torch.int64)
    if starts is not None:
        return [starts.to(images)], spent
    if begin != "rivals":
        search = BEGINNINGS[begin](objective, images, threat, seeds=seeds)
        return [search.candidates], search.gradients.cpu()
    classes, _ = others_by_distance(objective, images, threat, most=_RIVALS)
    spent, begun = spent + classes.shape[1], []
    for lead in logit_differences(objective, classes):
        near, cost = fool(objective, [lead], images, threat, steps=20, overshoot=0.02)
        begun.append(near.points)
        spent = spent + cost
    return begun, spent


def _walk(
    objective: Objective, images: Tensor, points: Tensor, threat: Threat, steps: int
) -> tuple[Nearest, Tensor]:
    unbound = replace(threat, eps=ENDLESS)
    best = _tried(objective, images, points, none_found(images), unbound)
    best = _bisect(objective, images, _Ray(best.points - images, 0.0 * best.norms), best, unbound)
    share = torch.ones_like(best.norms)
    walking = best.norms.isfinite() & (best.norms > 0)
    spent = torch.zeros(len(images), dtype=torch.int64)
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
    return best, spent


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
    # Try a share of the way from the best perturbation to the goal, less where it fails; then
    # bisect the boundary along the direction that won.
    old, open_, ray = best, walking, _Ray(best.points - images, best.norms)
    for _ in range(TURNS):
        way = column(share, images).to(images)
        delta = (old.points - images) * (1.0 - way) + goal * way
        low = perturbation_norm(delta, threat.norm)
        # On the ray, the middle between the plane and the best norm leaves room for a boundary
        # that bends away, and is nearer all the same.
        target = torch.minimum(old.norms * (1.0 - GAIN), (low + old.norms) / 2.0)
        points = _at(images, delta, target, threat)
        tried = _tried(objective, images, points, best, threat)
        better = open_ & (tried.norms < best.norms)
        best = _chosen(better, tried, best, images)
        ray = _Ray(
            torch.where(column(better, images), delta, ray.delta),
            torch.where(better, 0.9 * low, ray.low),
        )
        share = torch.where(better, (2.0 * share).clamp(max=1.0), share)
        open_ = open_ & ~better
        share = torch.where(open_, share / 4.0, share)
        if not bool(open_.any()):
            break
    moved = best.norms < old.norms
    if bool(moved.any()):
        best = _chosen(moved, _bisect(objective, images, ray, best, threat), best, images)
    return best, share


def _bisect(
    objective: Objective, images: Tensor, ray: _Ray, best: Nearest, threat: Threat
) -> Nearest:
    # Between a norm that need not win and the best one, which lies on the ray.
    low, high = torch.minimum(ray.low, best.norms), best.norms
    for _ in range(_BISECTIONS):
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
