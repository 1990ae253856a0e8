"""Certify by bounds of the gradient over balls that grow to the radius."""

from functools import partial

import torch
from torch import Tensor

from robustcl.certify._product import product_pairs
from robustcl.certify.bounds.preactivation_bounds import ball_bounds
from robustcl.certify.bounds.refined_bounds import LARGEST, check_units, refined_bounds
from robustcl.certify.bounds.slopes import slope_bounds
from robustcl.certify.bounds.zonotope_slopes import MOST, best_jacobian_bounds
from robustcl.certify.claim import Claim, nearest_other_class
from robustcl.certify.image_by_image import certify_each
from robustcl.certify.ops.enclosures import Region
from robustcl.certify.preparation import PreparedModel, ready
from robustcl.certify.rounding import round_up
from robustcl.certify.search import open_classes
from robustcl.certify.verification_problem import VerificationProblem
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError

_DOWN = 1.0 / round_up(1.0)
_CHUNK = 256  # directions times stairs held in memory at once
_NEAREST = 3  # other classes that the finer stairs are for
SMALL = 5_000  # numbers inside a network; in larger ones zonotopes took 8 to 15 times as long


def local(
    classifier: Classifier,
    images: Tensor,
    *,
    norm: CertifiedNorm = "l2",
    stairs: int = 16,
    units: int = LARGEST,
    prepared: PreparedModel | None = None,
) -> Claim:
    """Certify that no perturbation of norm below the radius changes the predicted class.

    Claimed of the real-arithmetic network with the stored weights in eval mode, for all
    perturbations in pixel units, whether or not they leave [0, 1]. Guarantee: deterministic.

    With L_j(t) at least the dual norm of the margin's gradient anywhere in the ball of radius t,
    class j cannot overtake inside r_j = sup{r: integral_0^r L_j < margin_j}. L_j comes from an
    interval Jacobian (`slope_bounds`), in small networks also from a zonotope of gradients
    (`generator_slope_bounds`) over tighter regions (`refined_bounds`), at the outer radius of each
    stair, and from the product of layer norms beyond the last; the radius is the minimum over all
    j, never below `product`.

    Args:
        classifier: A classifier with a prototype, linear or identity head.
        images: (B, C, H, W) in [0, 1].
        norm: 'l2' or 'linf'.
        stairs: Steps of the staircase; the cost is proportional to them.
        units: Numbers of a layer up to which each that is undecided is bounded by lines of its own.
            More than the default lets large networks do so too, and is also the number of undecided
            units up to which zonotopes are tried, at 100 times the cost and more.
        prepared: `traced(classifier, norm=norm, method="local")`, once per model.

    Returns:
        A deterministic claim about the model. `stairs` below 1 and `units` below 0 are refused.

    Reference:
        Hein and Andriushchenko, NeurIPS 2017, theorem 2.1; Weng et al. (Fast-Lip), ICML 2018.
    """
    check_stairs(stairs)
    check_units(units)
    model = ready(classifier, norm=norm, method="local", prepared=prepared)

    def claim(task: VerificationProblem) -> Claim:
        radii = local_pairs(
            task, product_pairs(task), first_radii(task), stairs=stairs, units=units
        )
        radius, rival = nearest_other_class(radii, task.predicted)
        return Claim("local", model.norm, "deterministic", "model", task.predicted, radius, rival)

    return certify_each(model, images, claim)


def check_stairs(stairs: int) -> None:
    """Refuse a staircase without stairs.

    Args:
        stairs: Their number.

    Raises:
        InputError: When it is below 1.
    """
    if stairs < 1:
        raise InputError(f"stairs {stairs} is below 1; try 16")


def local_pairs(
    task: VerificationProblem,
    known: Tensor,
    ceiling: Tensor,
    *,
    stairs: int,
    units: int = LARGEST,
    probe: bool = False,
) -> Tensor:
    """Climb the staircase for every other class that could be the nearest.

    A few coarse stairs serve for all other classes; the others are spent on the other classes that
    are nearest after that.

    Args:
        task: What is to be proved.
        known: (B, K) radii known already; another class that cannot bind any more is left at them.
        ceiling: (B, K) from `first_radii`.
        stairs: Number of stairs.
        units: As in `local`.
        probe: Whether images are left at what is known where the slope at that radius shows that
            stairs will hardly reach it.

    Returns:
        (B, K) radii inside which class j cannot overtake.
    """
    own = torch.isinf(ceiling)
    outer = ceiling.amin(dim=1)
    rows = torch.arange(len(known), device=known.device)
    coarse = max(1, stairs // 3)
    if probe:
        rows = rows[_hopeful(task, known, ceiling, stairs, units)]
    if not len(rows):
        return known
    others = open_classes(known[rows], ceiling[rows], outer[rows])
    known = _climbed(task, known, rows, others, outer[rows], coarse, units)
    reached = known.masked_fill(own, torch.inf)
    outer = torch.minimum(outer, 1.5 * reached.amin(dim=1))
    nearest = reached[rows].argsort(dim=1)[:, :_NEAREST]
    if stairs == coarse:
        return known
    return _climbed(task, known, rows, nearest, outer[rows], stairs - coarse, units)


def _hopeful(
    task: VerificationProblem, known: Tensor, ceiling: Tensor, stairs: int, units: int
) -> Tensor:
    # Whether stairs are likely to leave some margin at the radius known, for the steepest of the
    # other classes there: the integral by three slopes, and what the steps of the stairs add to it.
    edge = known.masked_fill(torch.isinf(ceiling), torch.inf).amin(dim=1, keepdim=True)
    others = ceiling.masked_fill(known > edge, torch.inf).argsort(dim=1)[:, :_NEAREST]
    rows = torch.arange(len(known), device=known.device)
    slopes, reaches = _slopes_at(task, rows, torch.cat([edge / 2.0, edge], dim=1), others, units)
    start = task.margins.gather(1, others)
    first, (half, last) = start / ceiling.gather(1, others), slopes.unbind(1)
    mean = (first + 2.0 * half + last) / 4.0 + (last - first) / (2.0 * stairs)
    bent = task.bent(reaches[:, 1], rows).gather(1, others)
    beyond = known.gather(1, others) > edge
    return ((start - bent > mean * edge) | beyond).all(dim=1)


def _climbed(
    task: VerificationProblem,
    known: Tensor,
    rows: Tensor,
    others: Tensor,
    outer: Tensor,
    stairs: int,
    units: int,
) -> Tensor:
    # The radii known, raised for some images and other classes by stairs spread evenly up to
    # `outer`.
    fractions = torch.arange(1, stairs + 1, dtype=torch.float64, device=outer.device) / stairs
    edges = outer.clamp_min(1e-12)[:, None] * fractions
    slopes, reaches = _slopes_at(task, rows, edges, others, units)
    bent = torch.stack([task.bent(reach, rows) for reach in reaches.unbind(1)], dim=1)
    bent = bent.gather(2, others[:, None].expand(-1, stairs, -1))
    beyond = task.traced.bound.along(task.directions[rows]).gather(1, others)
    found = staircase(task.margins[rows].gather(1, others), slopes, bent, edges, beyond)
    raised = known.clone()
    place = (rows[:, None], others)
    raised[place] = torch.maximum(raised[place], found.nan_to_num(nan=0.0))
    return raised


def first_radii(task: VerificationProblem) -> Tensor:
    """Return margin over gradient at the image, above which no bound of the gradient can certify.

    Args:
        task: What is to be proved.

    Returns:
        (B, K), inf for the predicted class and where there is no gradient.
    """
    radii = task.margins.clamp_min(0.0) / first_slopes(task).clamp_min(1e-300)
    own = torch.nn.functional.one_hot(task.predicted, radii.shape[1]).bool()
    largest = 2.0 * torch.tensor(task.images[0].numel(), dtype=torch.float64).sqrt()
    return radii.clamp(max=float(largest)).masked_fill(own, torch.inf)


def first_slopes(task: VerificationProblem) -> Tensor:
    """Return the dual norms of the margins' gradients at the image.

    Args:
        task: What is to be proved.

    Returns:
        (B, K).
    """
    network, norm = task.traced.fast, task.traced.norm
    return slope_bounds(network, task.center, task.directions, norm=norm, elementwise=False)


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
        left = (margins - spent) * _DOWN - bent[:, step]
        part = (left / slope.clamp_min(1e-300)).clamp_min(0.0)
        radius = torch.where(alive, radius + torch.minimum(part, width), radius)
        spent = spent + slope * width * round_up(1.0)
        alive = alive & (part >= width)
    still = bent[:, -1] == 0  # further out only a flat condition is known
    left = ((margins - spent) * _DOWN).clamp_min(0.0) / beyond.clamp_min(1e-300)
    return torch.where(alive & still, radius + left, radius) * _DOWN


def _slopes_at(
    task: VerificationProblem, rows: Tensor, edges: Tensor, others: Tensor, units: int
) -> tuple[Tensor, Tensor]:
    # Slopes (R, S, M) and the reach of h (R, S), for balls with these radii around some images.
    count = edges.shape[1]
    slopes = edges.new_zeros(len(edges), count, others.shape[1])
    reaches = torch.zeros_like(edges)
    network, norm = task.traced.fast, task.traced.norm
    bounds, enclose = slope_bounds, ball_bounds
    if network.size <= SMALL or units > LARGEST:
        bounds = partial(best_jacobian_bounds, most=units if units > LARGEST else MOST)
        enclose = partial(refined_bounds, largest=units)
    for part in torch.arange(len(rows)).split(max(1, _CHUNK // (others.shape[1] * count))):
        image = rows[part].repeat_interleave(count, 0)
        radii = edges[part].flatten()
        center = [Region(r.low[image], r.high[image], r.reach[image]) for r in task.center]
        regions = enclose(network, task.images[image], radii, center, norm=norm)
        directions = task.directions[image[:, None], others[part].repeat_interleave(count, 0)]
        found = bounds(network, regions, directions, norm=norm)
        slopes[part] = found.unflatten(0, (-1, count))
        reaches[part] = regions[-1].reach.unflatten(0, (-1, count))
    return slopes, reaches
