"""Certify by bounds of the gradient over balls that grow to the radius."""

import torch
from torch import Tensor

from certify.bounds.dense_norm import round_up
from certify.bounds.regions import Region, ball_regions
from certify.bounds.slopes import slope_bounds
from certify.claim import Claim, nearest_rival
from certify.problem import Problem, Traced, problem, traced
from certify.product import product_pairs
from robustcl.classifier import Classifier
from robustcl.errors import InputError
from robustcl.threat import Norm

DOWN = 1.0 / round_up(1.0)
CHUNK = 256  # directions times stairs held in memory at once
NEAREST = 3  # rivals that the finer stairs are for


def local(
    classifier: Classifier,
    images: Tensor,
    *,
    norm: Norm = "l2",
    stairs: int = 16,
    prepared: Traced | None = None,
) -> Claim:
    """Certify that no perturbation of norm below the radius changes the predicted class.

    Claimed of the real-arithmetic network with the stored weights in eval mode, for all
    perturbations in pixel units, whether or not they leave [0, 1]. Guarantee: deterministic.

    With L_j(t) at least the dual norm of the margin's gradient anywhere in the ball of radius t,
    class j cannot overtake inside r_j = sup{r: integral_0^r L_j < margin_j}. L_j comes from an
    interval Jacobian (see `slope_bounds`) at the outer radius of each stair, and from the product
    of layer norms beyond the last; the radius is the minimum over all j, never below `product`.

    Args:
        classifier: A classifier with a prototype, linear or identity head.
        images: (B, C, H, W) in [0, 1].
        norm: 'l2' or 'linf'.
        stairs: Steps of the staircase; the cost is proportional to them.
        prepared: `traced(classifier, norm=norm, method="local")`, once per model.

    Returns:
        A deterministic claim about the model. `stairs` below 1 is refused.

    Reference:
        Hein and Andriushchenko, NeurIPS 2017, theorem 2.1; Weng et al. (Fast-Lip), ICML 2018.
    """
    check_stairs(stairs)
    model = prepared or traced(classifier, norm=norm, method="local")
    task = problem(model, images)
    with torch.no_grad():
        radii = torch.maximum(product_pairs(task), local_pairs(task, stairs=stairs))
    radius, rival = nearest_rival(radii, task.predicted)
    return Claim("local", model.norm, "deterministic", "model", task.predicted, radius, rival)


def check_stairs(stairs: int) -> None:
    """Refuse a staircase without stairs.

    Args:
        stairs: Their number.

    Raises:
        InputError: When it is below 1.
    """
    if stairs < 1:
        raise InputError(f"stairs {stairs} is below 1; try 16")


def local_pairs(task: Problem, *, stairs: int, floor: Tensor | None = None) -> Tensor:
    """Climb the staircase for every rival that could be the nearest.

    A few coarse stairs serve for all rivals; the others are spent on the rivals that are nearest
    after that.

    Args:
        task: What is to be proved.
        stairs: Number of stairs.
        floor: (B, K) radii known already; a rival that cannot bind any more is left at them.

    Returns:
        (B, K) radii inside which class j cannot overtake.
    """
    known = torch.zeros_like(task.margins) if floor is None else floor
    ceiling = first_radii(task)
    outer = ceiling.amin(dim=1)
    coarse = max(1, stairs // 3)
    rivals = open_rivals(known, ceiling, outer)
    known = _climbed(task, known, rivals, outer, coarse)
    own = torch.nn.functional.one_hot(task.predicted, known.shape[1]).bool()
    reached = known.masked_fill(own, torch.inf)
    nearest = reached.argsort(dim=1)[:, :NEAREST]
    outer = torch.minimum(outer, 1.5 * reached.amin(dim=1))
    return _climbed(task, known, nearest, outer, stairs - coarse)


def _climbed(task: Problem, known: Tensor, rivals: Tensor, outer: Tensor, stairs: int) -> Tensor:
    # The radii known, raised for some rivals by stairs spread evenly up to `outer`.
    if stairs < 1:
        return known
    fractions = torch.arange(1, stairs + 1, dtype=torch.float64, device=outer.device) / stairs
    edges = outer.clamp_min(1e-12)[:, None] * fractions
    slopes, reaches = _slopes_at(task, edges, rivals)
    bent = torch.stack([task.bent(reach) for reach in reaches.unbind(1)], dim=1)
    bent = bent.gather(2, rivals[:, None].expand(-1, stairs, -1))
    beyond = task.traced.bound.along(task.directions).gather(1, rivals)
    found = staircase(task.margins.gather(1, rivals), slopes, bent, edges, beyond)
    found = found.nan_to_num(nan=0.0)
    return known.scatter(1, rivals, torch.maximum(found, known.gather(1, rivals)))


def first_radii(task: Problem) -> Tensor:
    """Return margin over gradient at the image, above which no bound of the gradient can certify.

    Args:
        task: What is to be proved.

    Returns:
        (B, K), inf for the predicted class and where there is no gradient.
    """
    slopes = slope_bounds(
        task.traced.fast, task.center, task.directions, norm=task.traced.norm, elementwise=False
    )
    radii = task.margins.clamp_min(0.0) / slopes.clamp_min(1e-300)
    own = torch.nn.functional.one_hot(task.predicted, radii.shape[1]).bool()
    largest = 2.0 * torch.tensor(task.images[0].numel(), dtype=torch.float64).sqrt()
    return radii.clamp(max=float(largest)).masked_fill(own, torch.inf)


def open_rivals(known: Tensor, ceiling: Tensor, outer: Tensor) -> Tensor:
    """List the rivals that may overtake within `outer`, the same number for every image.

    Args:
        known: (B, K) radii known already.
        ceiling: (B, K) radii that cannot be exceeded.
        outer: (B,) radii of interest.

    Returns:
        (B, M) classes, the most dangerous first; the predicted class may fill up.
    """
    wanted = (known < outer[:, None]) & torch.isfinite(ceiling)
    count = max(1, int(wanted.sum(dim=1).max()))
    order = torch.where(wanted, ceiling, torch.inf).argsort(dim=1)
    return order[:, :count]


def staircase(
    margins: Tensor, slopes: Tensor, bent: Tensor, edges: Tensor, beyond: Tensor
) -> Tensor:
    """Integrate upper bounds of the slope until the margin is used up.

    Args:
        margins: (B, M) at the image.
        slopes: (B, S, M) bounds over the ball of each edge.
        bent: (B, S, M) what is lost besides the integral inside each ball.
        edges: (B, S) ascending radii.
        beyond: (B, M) bounds everywhere.

    Returns:
        (B, M) radii, rounded down.
    """
    # A bound over a larger ball holds in the smaller ones.
    slopes = torch.minimum(slopes, beyond[:, None]).flip(1).cummin(dim=1).values.flip(1)
    widths = torch.diff(edges, dim=1, prepend=torch.zeros_like(edges[:, :1]))
    spent = torch.zeros_like(margins)
    radius = torch.zeros_like(margins)
    alive = margins > 0
    for step in range(edges.shape[1]):
        slope, width = slopes[:, step], widths[:, step, None]
        left = (margins - spent) * DOWN - bent[:, step]
        part = (left / slope.clamp_min(1e-300)).clamp_min(0.0)
        radius = torch.where(alive, radius + torch.minimum(part, width), radius)
        spent = spent + slope * width * round_up(1.0)
        alive = alive & (part >= width)
    still = bent[:, -1] == 0  # further out only a flat condition is known
    left = ((margins - spent) * DOWN).clamp_min(0.0) / beyond.clamp_min(1e-300)
    return torch.where(alive & still, radius + left, radius) * DOWN


def _slopes_at(task: Problem, edges: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor]:
    # Slopes (B, S, M) and the reach of h (B, S), for balls with these radii.
    count, rows = edges.shape[1], torch.arange(len(edges), device=edges.device)
    picked = task.directions[rows[:, None], rivals]
    slopes = edges.new_zeros(len(edges), count, rivals.shape[1])
    reaches = torch.zeros_like(edges)
    per_image = rivals.shape[1] * count
    size = max(1, CHUNK // per_image)
    for start in range(0, len(edges), size):
        part = slice(start, start + size)
        radii = edges[part].flatten()
        center = [_repeated(region, part, count) for region in task.center]
        images = task.images[part].repeat_interleave(count, 0)
        network, norm = task.traced.fast, task.traced.norm
        regions = ball_regions(network, images, radii, center, norm=norm)
        directions = picked[part].repeat_interleave(count, 0)
        found = slope_bounds(network, regions, directions, norm=norm)
        slopes[part] = found.unflatten(0, (-1, count))
        reaches[part] = regions[-1].reach.expand(len(radii)).unflatten(0, (-1, count))
    return slopes, reaches


def _repeated(region: Region, part: slice, count: int) -> Region:
    values = (region.low, region.high, region.reach)
    return Region(*(value[part].repeat_interleave(count, 0) for value in values))
