"""Estimate the radius by extreme-value statistics of sampled gradients (CLEVER)."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from robustcl.certify.claim import Claim, estimated
from robustcl.certify.gradients import output_gradients
from robustcl.certify.norms import check_certified_norm
from robustcl.core.batching import fill, fixed_size
from robustcl.core.checks import check_images
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode

BALL: dict[str, float] = {"l2": 5.0, "linf": 0.05}  # the paper's, section 5.2
_BLOCK = 16  # points drawn at once; part of the stream's definition, not the batch size
# Another class this many times as far as the nearest is given up after the first block of points;
# no endpoint that is fitted exceeds twice the largest slope.
_FAR = 2.0
POOL = 10  # gradients per batch size, from which the batches are drawn with replacement
SHAPES = 16  # Newton steps for the shape
_ROOM = torch.logspace(-4, 0, 25, dtype=torch.float64)  # endpoint past the maximum, in ranges


def clever(
    classifier: Classifier,
    images: Tensor,
    *,
    norm: CertifiedNorm = "l2",
    seeds: Sequence[int] | None = None,
    ball: float | None = None,
    batches: int = 100,
    samples: int = 128,
    batch_size: int = 16,
) -> Claim:
    """Estimate min_j min((s_y - s_j) / a_j, R), a_j an estimate of the slope's maximum in a ball.

    Nothing is proved: samples in a ball of many dimensions miss its steepest places. Per image,
    10 `samples` points are drawn uniformly in the ball of radius R. At each, gradients through one
    graph give |grad (s_y - s_j)|_q; after 16 points only for other classes that are less than
    twice as far as the nearest by the largest slopes seen so far. The maxima of `batches` batches
    of `samples` of them, drawn with replacement, are fitted by a reverse Weibull distribution,
    whose endpoint is a_j. For scores that are affine in the image it is the exact distance to the
    decision boundary, without the pixel box, up to R.

    Args:
        classifier: Any classifier.
        images: (B, C, H, W) in [0, 1].
        norm: 'l2' or 'linf'; q is its dual.
        seeds: One seed per image; 0, 1, ... by default.
        ball: R in pixel units, the largest radius that can be given; 5 for L2 and 0.05 for Linf
            by default. Points are not clipped to [0, 1].
        batches: Maxima to which the distribution is fitted.
        samples: Gradient norms per maximum.
        batch_size: Points per model call.

    Returns:
        An estimate about the model.

    Raises:
        InputError: When an option is out of range, or the seeds are not one per image.

    Reference:
        Weng et al., Evaluating the Robustness of Neural Networks: An Extreme Value Theory
        Approach, ICLR 2018, algorithms 1 and 2.
    """
    size = BALL[check_certified_norm(norm)] if ball is None else ball
    if not 0 < size < float("inf") or batches < 2 or samples < 1 or batch_size < 1:
        raise InputError(
            f"clever with ball={ball}, batches={batches}, samples={samples}, "
            f"batch_size={batch_size} does nothing; use positive numbers and at least 2 batches"
        )
    images = check_images(images, classifier.image_shape)
    seeds = list(range(len(images)) if seeds is None else seeds)
    if len(seeds) != len(images):
        raise InputError(f"{len(seeds)} seeds for {len(images)} images; give one each")
    with torch.inference_mode(False), eval_mode(classifier):
        with torch.no_grad():
            scores = fixed_size(classifier, images, batch_size=min(batch_size, len(images)))
        predicted = scores.argmax(dim=1)
        gaps = (scores.gather(1, predicted[:, None]) - scores).double()
        maxima = []
        for image, top, gap, seed in zip(
            images, predicted.tolist(), gaps.cpu(), seeds, strict=True
        ):
            generator = torch.Generator().manual_seed(seed)
            blocks = _blocks(image, POOL * samples, size, norm, generator)
            slopes = _slopes(classifier, blocks, top, gap, size, norm, batch_size)
            maxima.append(_batch_maxima(slopes, batches, samples, generator))
    largest = weibull_endpoint(torch.stack(maxima, dim=1)).to(scores.device)
    return estimated("clever", norm, (gaps / largest).clamp(max=size), scores, predicted)


def weibull_endpoint(maxima: Tensor) -> Tensor:
    """Estimate the upper endpoint of reverse Weibull distributions by maximum likelihood.

    The distribution function is exp(-((a - y) / b)^c) for y < a; the endpoint a is returned. The
    likelihood is maximized over c >= 1, since below 1 it has no bound, and over endpoints up to the
    samples' range past their maximum, since it is nearly flat beyond and samples of a light tail
    would be carried far away. Samples that are all equal give their value.

    Args:
        maxima: (n, ...) samples, n >= 2, of as many distributions as the other axes have entries.

    Returns:
        (...) float64 endpoints, none below the largest sample.

    Reference:
        Weng et al., ICLR 2018, theorem 4.1 and algorithm 1, line 10.
    """
    values = maxima.detach().double().flatten(1)
    top = values.amax(dim=0)
    width = top - values.amin(dim=0)
    varied = width > 1e-12 * top.abs()
    depth = (top - values) / torch.where(varied, width, 1.0)
    grid = _ROOM.to(depth.device)[:, None].expand(-1, depth.shape[1])
    for refinement in (2, 3):
        best = _log_likelihood(depth, grid).argmax(dim=0, keepdim=True)
        low = grid.gather(0, (best - 1).clamp_min(0)).log()
        high = grid.gather(0, (best + 1).clamp_max(len(grid) - 1)).log()
        parts = torch.linspace(0, 1, 6 * refinement + 1, dtype=torch.float64, device=depth.device)
        grid = torch.exp(low + parts[:, None] * (high - low))
    best = _log_likelihood(depth, grid).argmax(dim=0, keepdim=True)
    past = torch.where(varied, grid.gather(0, best)[0] * width, 0.0)
    return (top + past).view(maxima.shape[1:])


def _log_likelihood(depth: Tensor, room: Tensor) -> Tensor:
    # (G, P) mean log-likelihood at the best shape c >= 1, for depths (n, P) and endpoints (G, P).
    rows = []
    for past in room:
        z = (depth + past) / (1.0 + past)
        logs = z.clamp_min(1e-300).log()
        mean = logs.mean(dim=0)
        shape = torch.ones_like(past)
        for _ in range(SHAPES):
            # Newton's method in 1/c for E[z^c log z] / E[z^c] - E[log z] = 1/c.
            power = (shape * logs).exp()
            weights = power / power.sum(dim=0)
            first = (weights * logs).sum(dim=0)
            spread = (weights * logs**2).sum(dim=0) - first**2
            inverse = 1.0 / shape
            slope = spread * shape**2 + 1.0
            step = (first - mean - inverse) / slope
            shape = 1.0 / (inverse + step).clamp(1e-6, 1.0)
        scale = (shape * logs).exp().mean(dim=0).log()
        rows.append(shape.log() - scale + (shape - 1.0) * mean - torch.log1p(past))
    return torch.stack(rows)


def _slopes(
    classifier: Classifier,
    blocks: Iterator[Tensor],
    top: int,
    gaps: Tensor,
    size: float,
    norm: CertifiedNorm,
    batch_size: int,
) -> Tensor:
    # (count, K) dual norms of grad (s_y - s_j) at the points. Outputs s_y - s_j are differentiated,
    # through one graph: no gradient of y itself is needed. After the first block only other
    # classes that may be the nearest are kept; the others stay at the largest slope they had there.
    order = 2.0 if norm == "l2" else 1.0
    others = [j for j in range(len(gaps)) if j != top]
    found: list[Tensor] = []
    for points in blocks:
        rows = points.new_zeros(len(points), len(gaps), dtype=torch.float64, device="cpu")
        if found:
            rows[:] = found[0].amax(dim=0)
        if not others:  # all are far beyond the ball
            found.append(rows)
            continue

        def leads(batch: Tensor, others: list[int] = others) -> Tensor:
            scores = classifier(batch)
            return scores[:, top : top + 1] - scores[:, others]

        for start in range(0, len(points), batch_size):
            part = points[start : start + batch_size]
            _, gradients = output_gradients(leads, fill(part, batch_size))
            norms = torch.linalg.vector_norm(gradients[: len(part)].flatten(2), order, dim=2)
            rows[start : start + len(part), others] = norms.double().cpu()
        found.append(rows)
        if len(found) == 1:
            far = gaps / rows.amax(dim=0)
            near = min(float(far[others].min()), size)
            others = [j for j in others if not far[j] > _FAR * near]
    return torch.cat(found)


def _blocks(
    image: Tensor, count: int, size: float, norm: CertifiedNorm, generator: torch.Generator
) -> Iterator[Tensor]:
    # Points drawn uniformly in the ball; what a generator gives depends on how many are drawn.
    for start in range(0, count, _BLOCK):
        wanted = min(_BLOCK, count - start)
        yield image + size * _in_unit_ball(wanted, image, norm, generator)


def _in_unit_ball(
    count: int, image: Tensor, norm: CertifiedNorm, generator: torch.Generator
) -> Tensor:
    shape = (count, *image.shape)
    if norm == "linf":
        return torch.empty(shape).uniform_(-1.0, 1.0, generator=generator).to(image)
    normal = torch.randn(shape, generator=generator).flatten(1)
    share = torch.rand(count, 1, generator=generator) ** (1.0 / normal.shape[1])
    return (torch.nn.functional.normalize(normal, dim=1) * share).view(shape).to(image)


def _batch_maxima(slopes: Tensor, batches: int, samples: int, generator: torch.Generator) -> Tensor:
    # The maximum of s draws with replacement from N sorted values has rank ceil(N u^(1/s)) for
    # uniform u, so its rank is drawn instead; (batches, K).
    ordered = slopes.sort(dim=0).values
    uniform = torch.rand(batches, slopes.shape[1], generator=generator, dtype=torch.float64)
    ranks = torch.ceil(len(slopes) * uniform ** (1.0 / samples)).long()
    return ordered.gather(0, (ranks - 1).clamp(0, len(slopes) - 1))
