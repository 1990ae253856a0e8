"""Find the exact distance to the decision boundary of a small ReLU network, by branch and bound.

A node fixes the phases of some ReLUs. Its lower bound is the distance to a polytope that contains
all adversarial images of that node: half-spaces from linear bounds of the other class's margin and
of the fixed units (slopes of undecided units chosen at the last point, so that the cuts of a convex
relaxation are exact there). With every phase fixed the half-spaces are the network itself.
"""

import heapq
import itertools
import time
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from tests.nearest_point import Array, Mask, nearest_point
from tests.relu_margins import Problem, activations, below, margins, problem_of, ranges_of, relax

GAP = 2e-7  # relative; what is closer to the best radius than this is not searched
ROUNDS = 6  # of cuts per node


@dataclass(frozen=True)
class RadiusBounds:
    """Enclose the distance to the nearest tie between the predicted class and another class.

    Args:
        lower: Proved up to rounding: nothing nearer ties.
        upper: Distance of a tie that was evaluated; infinite where none was found.
        nodes: Nodes that were searched.
    """

    lower: float
    upper: float
    nodes: int


@dataclass(frozen=True, eq=False)
class _Node:
    rival: int
    phases: tuple[Array, ...]  # 1 active, -1 inactive, 0 open
    cuts: Array  # (m, n + 1): g and h of g.v >= h
    point: Array


def exact_radius(
    classifier: Classifier,
    image: Tensor,
    *,
    norm: CertifiedNorm,
    box: tuple[float, float] | None = None,
    seconds: float = 30.0,
) -> float:
    """Return the smallest perturbation at which another class ties the predicted class.

    Exact to 1e-6 relative, in float64 arithmetic with the stored weights.

    Args:
        classifier: Backbone of Flatten, Linear and ReLU; prototypes, scores as they are, or a
            linear head (on the sphere: without offsets).
        image: (C, H, W) or (1, C, H, W).
        norm: 'l2' or 'linf'.
        box: Pixel range, or None.
        seconds: Budget.

    Returns:
        The radius in pixel units; infinite where no other class is ever met.

    Raises:
        TimeoutError: When the budget is spent first.
    """
    found = radius_bounds(classifier, image, norm=norm, box=box, seconds=seconds)
    if found.lower < found.upper * (1 - 1e-6):
        raise TimeoutError(f"after {seconds} s only {found} is known; see radius_bounds")
    return found.upper


def radius_bounds(
    classifier: Classifier,
    image: Tensor,
    *,
    norm: CertifiedNorm,
    box: tuple[float, float] | None = None,
    seconds: float = 30.0,
    ceiling: float = 100.0,
) -> RadiusBounds:
    """Enclose the exact radius as tightly as the budget allows.

    Args:
        classifier: As for `exact_radius`.
        image: (C, H, W) or (1, C, H, W).
        norm: 'l2' or 'linf'.
        box: Pixel range, or None.
        seconds: Budget.
        ceiling: Nothing is searched beyond this radius; a tie that lies farther counts as none.

    Returns:
        The bounds, equal up to 1e-6 relative where the budget sufficed.
    """
    deadline = time.monotonic() + seconds
    problem = problem_of(classifier, image, norm, box)
    phases = tuple(np.zeros(len(bias)) for _, bias in problem.hidden)
    cuts = np.zeros((0, len(problem.image) + 1))
    rivals = range(len(problem.rows))
    roots = [_Node(rival, phases, cuts, problem.image) for rival in rivals]
    return _search(problem, roots, _descend(problem, ceiling), ceiling, deadline)


def _search(
    problem: Problem, roots: list[_Node], best: float, ceiling: float, deadline: float
) -> RadiusBounds:
    # Best first: the node with the least bound is next, whichever its other class.
    order = itertools.count()
    queue = [(0.0, next(order), root) for root in roots]
    unresolved, nodes = np.inf, 0
    while queue and queue[0][0] < min(best, ceiling) * (1 - GAP):
        if time.monotonic() > deadline:
            unresolved = min(unresolved, queue[0][0])
            break
        inherited, _, node = heapq.heappop(queue)
        nodes += 1
        bound, child, branch = _bound(problem, node, min(best, ceiling))
        bound = max(bound, inherited)
        if bound < min(best, ceiling) * (1 - GAP):
            best = min(best, _along(problem, child.point - problem.image, best))
        if bound >= min(best, ceiling) * (1 - GAP):
            continue
        if branch is None:
            unresolved = min(unresolved, bound)
            continue
        for phase in (1.0, -1.0):
            heapq.heappush(queue, (bound, next(order), _fix(child, branch, phase)))
    return RadiusBounds(min(best * (1 - GAP), unresolved), best, nodes)


def _fix(node: _Node, branch: tuple[int, int], phase: float) -> _Node:
    phases = [layer.copy() for layer in node.phases]
    phases[branch[0]][branch[1]] = phase
    return replace(node, phases=tuple(phases))


def _bound(
    problem: Problem, node: _Node, radius: float
) -> tuple[float, _Node, tuple[int, int] | None]:
    # The node's distance from below; the node with its cuts and last point; where to branch.
    ranges = ranges_of(problem, node.phases, radius * (1 + 1e-9))
    if any(bool((low > high + 1e-12).any()) for low, high in ranges):
        return np.inf, node, None
    bound, point, cuts = 0.0, node.point, node.cuts
    first = _phase_cuts(problem, node, [], depth=0)
    for _ in range(ROUNDS):
        relaxed = [
            relax(low, high, (value > 0).astype(float))
            for (low, high), value in zip(ranges, activations(problem, point), strict=True)
        ]
        deeper = range(1, len(ranges))
        cuts = np.vstack([
            cuts,
            _margin_cut(problem, node.rival, relaxed),
            *(_phase_cuts(problem, node, relaxed, depth=depth) for depth in deeper),
        ])
        move, reached, used = _nearest(problem, np.vstack([first, cuts]), radius)
        improved, bound = reached > bound * (1 + 1e-3), max(bound, reached)
        if bound >= radius * (1 - GAP):
            return bound, node, None
        point, cuts = problem.image + move, cuts[used[len(first) :]]
        if not improved or margins(problem, point)[node.rival] <= problem.tie:
            break
    child = replace(node, point=point, cuts=cuts)
    return bound, child, _branch(problem, child, ranges)


def _nearest(problem: Problem, cuts: Array, scale: float) -> tuple[Array, float, Mask]:
    low, high = problem.low, problem.high
    return nearest_point(cuts, norm=problem.norm, low=low, high=high, scale=scale)


def _margin_cut(problem: Problem, rival: int, relaxed: list[Array]) -> Array:
    row, offset = problem.rows[[rival]], problem.offsets[[rival]]
    return _half_space(problem, *below(row, offset, problem.hidden, relaxed))


def _phase_cuts(problem: Problem, node: _Node, relaxed: list[Array], *, depth: int) -> Array:
    # What the fixed phases of one layer imply: -z <= 0 where active, z <= 0 where inactive.
    if not problem.hidden:
        return np.zeros((0, len(problem.image) + 1))
    matrix, bias = problem.hidden[depth]
    fixed = np.flatnonzero(node.phases[depth])
    sign = -node.phases[depth][fixed]
    rows, offsets = matrix[fixed] * sign[:, None], bias[fixed] * sign
    return _half_space(problem, *below(rows, offsets, problem.hidden[:depth], relaxed[:depth]))


def _half_space(problem: Problem, rows: Array, offsets: Array) -> Array:
    # rows @ (image + v) + offsets <= 0 as g.v >= h, with |g| = 1 where it is not zero.
    height = rows @ problem.image + offsets
    size = np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
    return np.column_stack([-rows / size[:, None], height / size])


def _branch(
    problem: Problem, node: _Node, ranges: list[tuple[Array, Array]]
) -> tuple[int, int] | None:
    # The open unit whose relaxation costs the margin most at the last point.
    values = activations(problem, node.point)
    row, best, chosen = problem.rows[node.rival], -1.0, None
    for depth in reversed(range(len(values))):
        (low, high), value = ranges[depth], values[depth]
        slope, above, shift = relax(low, high, (value > 0).astype(float))
        gap = np.where(row < 0, -row, 1e-6) * np.abs(above * value + shift - np.maximum(value, 0.0))
        cost = np.where((low < 0) & (high > 0), gap + 1e-12 * np.minimum(high, -low), -1.0)
        if cost.max() > best:
            best, chosen = float(cost.max()), (depth, int(cost.argmax()))
        row = np.maximum(row, 0.0) * slope + np.minimum(row, 0.0) * above
        row = row @ problem.hidden[depth][0]
    return chosen if best >= 0 else None


def _length(problem: Problem, move: Array) -> float:
    return float(np.linalg.norm(move, 2 if problem.norm == "l2" else np.inf))


def _along(problem: Problem, move: Array, best: float) -> float:
    # The first tie along a direction, if it is nearer than the best so far.
    length = _length(problem, move)
    if length == 0.0:
        return 0.0 if margins(problem, problem.image).min() <= problem.tie else np.inf
    low, high = 0.0, None
    for factor in (1.0, 1 + 1e-9, 1 + 1e-7, 1.001, 1.01, 1.03, 1.1, 1.3, 2.0, 5.0, 20.0):
        if length * factor >= best:
            break
        if _ties(problem, factor * move):
            high = factor
            break
        low = factor
    if high is None:
        return np.inf
    for _ in range(60 if high > 1.0 else 0):
        middle = (low + high) / 2
        low, high = (low, middle) if _ties(problem, middle * move) else (middle, high)
    return _length(problem, np.clip(high * move, problem.low, problem.high))


def _ties(problem: Problem, move: Array) -> bool:
    moved = problem.image + np.clip(move, problem.low, problem.high)
    return bool(margins(problem, moved).min() <= problem.tie)


def _descend(problem: Problem, ceiling: float) -> float:
    # An upper bound: per other class, project the image on the boundary linearized at the last
    # point.
    best = np.inf
    for rival in range(len(problem.rows)):
        point = problem.image
        for _ in range(12):
            relaxed = [
                np.stack([value > 0, value > 0, 0 * value]).astype(float)
                for value in activations(problem, point)
            ]
            move, bound, _ = _nearest(problem, _margin_cut(problem, rival, relaxed), 1.0)
            if not bound < min(ceiling, 2 * best):
                break
            best = min(best, _along(problem, move, min(best, ceiling)))
            point = problem.image + move
    return best
