"""Certify the drift of a black-box encoder by smoothing it to a center."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcl.certify._displacement import Drift, check_one_of
from robustcl.certify.bounds.confidence import clopper_pearson_lower_bound
from robustcl.certify.norms import check_certified_norm
from robustcl.core.checks import check_images
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode
from robustcl.core.special_functions import ndtr, ndtri

CANDIDATES = 64  # none of them is in a ball of mass > 1/2 with probability below 2^-64
FACTOR = 3.0  # 1 + beta, with beta = 2 of the best among sampled centers
DOWN, UP = 1.0 - 1e-12, 1.0 + 1e-12


@dataclass(frozen=True)
class Noise:
    """State how a smoothed model is sampled.

    Args:
        sigma: Standard deviation of the Gaussian noise, in pixel units, before the input
            normalization; noisy images are not clipped.
        n: Samples of each of the method's estimates.
        alpha: Probability of a wrong claim, per image.
        batch_size: Noisy images per model call.

    Raises:
        InputError: When a number is out of range.
    """

    sigma: float = 0.25
    n: int = 2000
    alpha: float = 0.001
    batch_size: int = 256

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise InputError(f"sigma {self.sigma} is not positive and finite; try 0.25")
        if not 0 < self.alpha < 0.5:
            raise InputError(f"alpha {self.alpha} is not between 0 and 0.5; try 0.001")
        if self.n < 2 or self.batch_size < 1:
            raise InputError(f"n {self.n} or batch_size {self.batch_size} is too small")


@dataclass(frozen=True, eq=False)
class Centers:
    """Hold the center-smoothed model's answers.

    Args:
        points: (B, d) float64 centers.
        abstained: (B,) where the model gives no answer.
    """

    points: Tensor
    abstained: Tensor


def smoothed_centers(
    encoder: Classifier | Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    noise: Noise | None = None,
    delta: float = 0.07,
    seeds: Sequence[int] | None = None,
) -> Centers:
    """Answer with the center of a small ball that holds about half of the noisy embeddings.

    Of the first 64 embeddings of n noisy images, the one is taken whose k-th nearest among all n
    is nearest, with k such that a ball of mass 1/2 + delta holds k of the n except with
    probability alpha/4. On n fresh ones the ball of that radius must be shown, at level alpha/4,
    to have mass above 1/2 - delta; else the answer is to abstain. This is the subject of the
    claims of `center_smoothing`.

    Args:
        encoder: A classifier, whose embeddings are meant, or any function from images (B, C, H, W)
            to (B, d), row by row; of a function the caller sees to eval mode.
        images: (B, C, H, W).
        noise: Standard deviation, samples and level; `Noise()` by default.
        delta: Slack in mass, between 0 and 1/2; below about 2.5/sqrt(n) it often abstains.
        seeds: One seed per image; 0, 1, ... by default.

    Returns:
        The answers.

    Reference:
        Kumar and Goldstein, Center Smoothing: Certified Robustness for Networks with Structured
        Outputs, NeurIPS 2021, algorithm 1, with exact binomial bounds for Hoeffding's.
    """
    noise = noise or Noise()
    return _answers(encoder, images, noise, delta, seeds)[0]


def center_smoothing(
    encoder: Classifier | Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    eps: float | None = None,
    threshold: float | None = None,
    norm: CertifiedNorm = "l2",
    noise: Noise | None = None,
    delta: float = 0.07,
    seeds: Sequence[int] | None = None,
) -> tuple[Drift, Centers]:
    """Bound the drift of the center-smoothed embedding, knowing nothing of the encoder.

    Claimed for each perturbation v of norm at most the budget, chosen without looking at the noise
    drawn here: the answer of `smoothed_centers` at x + v, with the same options, lies within the
    drift of the answer at x, or abstains. Guarantee: probabilistic, wrong with probability at most
    alpha over the noise drawn at x and at x + v, up to floating-point sampling.

    Let z be the answer at x, and R such that the ball B(z, R) has mass
    p >= Phi(eps/sigma + Phi^-1(1/2 + delta)) of embeddings of x + noise. By the lemma of Neyman
    and Pearson it has mass at least 1/2 + delta at x + v. So except with probability alpha/4 it
    holds k of n samples there, and 64 candidates, one of which is in it, so the ball of the answer
    z' has a radius of at most 2R. Unless z' is withheld, that ball has mass above 1/2 - delta,
    except with probability alpha/4; the two balls meet, and |z' - z| <= 3R. R is an order
    statistic of fresh distances, at level alpha/2; for a threshold t, the mass of B(z, t/3) is
    bounded below instead and gives the budget.

    Args:
        encoder: A classifier, whose embeddings are meant, or any function from images (B, C, H, W)
            to (B, d), row by row; of a function the caller sees to eval mode.
        images: (B, C, H, W) in [0, 1].
        eps: Budget, in pixel units; give this or the threshold.
        threshold: Largest drift allowed, a Euclidean distance of embeddings.
        norm: 'l2'; for 'linf' the L2 norm of the perturbation is at most sqrt(D) times as large.
        noise: Standard deviation, samples and level; `Noise()` by default.
        delta: Slack in mass, between 0 and 1/2; below about 2.5/sqrt(n) it often abstains.
        seeds: One seed per image; 0, 1, ... by default.

    Returns:
        A probabilistic claim about the center-smoothed model, and its answers at the images. Where
        the model abstains, or nothing follows, the drift is infinite or the budget 0. For a
        classifier on the sphere the drift is at most 2.

    Reference:
        Kumar and Goldstein, Center Smoothing, NeurIPS 2021, theorem 2 and algorithm 2.
    """
    check_one_of(eps, threshold)
    noise = noise or Noise()
    root = 1.0 if check_certified_norm(norm) == "l2" else math.sqrt(images[0].numel()) * UP
    centers, distances = _answers(encoder, images, noise, delta, seeds)
    if eps is not None:
        found = [_radius_of_mass(row, eps * root / noise.sigma, noise.alpha, delta)
                 for row in distances]  # fmt: skip
        drift = FACTOR * UP * torch.tensor(found, dtype=torch.float64)
        if isinstance(encoder, Classifier) and encoder.normalizes:
            drift = drift.clamp(max=2.0)
        drift = torch.where(centers.abstained, torch.inf, drift)
        budget = torch.full_like(drift, eps)
    else:
        assert threshold is not None
        inside = (distances <= threshold / FACTOR * DOWN).sum(dim=1)
        found = [_budget(int(count), noise, delta) / root * DOWN for count in inside]
        budget = torch.where(centers.abstained, 0.0, torch.tensor(found, dtype=torch.float64))
        drift = torch.full_like(budget, threshold)
    subject = f"center-smoothed model (sigma={noise.sigma:g}, n={noise.n}, delta={delta:g})"
    return Drift("center_smoothing", norm, "probabilistic", subject, budget, drift), centers


def noisy_embeddings(
    function: Callable[[Tensor], Tensor],
    image: Tensor,
    noise: Noise,
    generator: torch.Generator,
) -> Tensor:
    """Evaluate a function on noisy copies of an image, in batches of one shape.

    Args:
        function: (batch_size, ...) images to (batch_size, d).
        image: One image.
        noise: Standard deviation, number and batch size.
        generator: A generator on the CPU, so that the numbers are the same on every device.

    Returns:
        (n, d) float64 outputs on the CPU.
    """
    outputs = []
    for start in range(0, noise.n, noise.batch_size):
        draws = torch.randn(noise.batch_size, *image.shape, generator=generator).to(image)
        values = function(image + noise.sigma * draws)
        outputs.append(values[: noise.n - start].detach().double().cpu())
    return torch.cat(outputs)


def _answers(
    encoder: Classifier | Callable[[Tensor], Tensor],
    images: Tensor,
    noise: Noise,
    delta: float,
    seeds: Sequence[int] | None,
) -> tuple[Centers, Tensor]:
    # The answers, and (B, n) distances of fresh embeddings from them.
    if not 0 < delta < 0.5:
        raise InputError(f"delta {delta} is not between 0 and 0.5; try 0.07")
    if seeds is not None and len(seeds) != len(images):
        raise InputError(f"{len(seeds)} seeds for {len(images)} images; give one each")
    images = check_images(images, box=None)
    count = _enough(noise, delta)
    function = encoder.embeddings if isinstance(encoder, Classifier) else encoder
    points, abstained, distances = [], [], []
    module = encoder if isinstance(encoder, torch.nn.Module) else None
    with torch.no_grad(), eval_mode(module) if module is not None else nullcontext():
        for row, image in enumerate(images):
            generator = torch.Generator().manual_seed(row if seeds is None else seeds[row])
            point, radius = _center(noisy_embeddings(function, image, noise, generator), count)
            fresh = _distances(point[None], noisy_embeddings(function, image, noise, generator))[0]
            inside = int((fresh <= radius).sum())
            mass = clopper_pearson_lower_bound(inside, noise.n, alpha=noise.alpha / 4)
            abstained.append(not (mass > 0.5 - delta and math.isfinite(radius)))
            points.append(point)
            distances.append(fresh)
    return Centers(torch.stack(points), torch.tensor(abstained)), torch.stack(distances)


def _enough(noise: Noise, delta: float) -> int:
    # The largest k such that a ball of mass 1/2 + delta holds fewer than k of the n samples, or
    # none of the candidates, with probability at most alpha/4.
    from scipy.stats import binom  # slow to import

    level = noise.alpha / 4 - (0.5 - delta) ** min(CANDIDATES, noise.n)
    count = int(binom.ppf(max(level, 0.0), noise.n, 0.5 + delta)) if level > 0 else 0
    while count > 0 and binom.cdf(count - 1, noise.n, 0.5 + delta) > level * DOWN:
        count -= 1
    if count < 1:
        raise InputError(f"n {noise.n} is too small for alpha {noise.alpha}; try n=2000")
    return count


def _center(samples: Tensor, count: int) -> tuple[Tensor, float]:
    # The candidate whose `count`-th nearest sample is nearest; one that is not finite never is.
    distances = _distances(samples[:CANDIDATES], samples)
    radii = distances.kthvalue(count, dim=1).values
    best = int(radii.argmin())
    return samples[best], float(radii[best]) * UP


def _distances(centers: Tensor, samples: Tensor) -> Tensor:
    values = torch.cdist(centers, samples, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.nan_to_num(values, nan=torch.inf, posinf=torch.inf)


def _radius_of_mass(distances: Tensor, shift: float, alpha: float, delta: float) -> float:
    # Above, at level alpha/2, the radius that holds mass Phi(shift + Phi^-1(1/2 + delta)).
    from scipy.stats import binom  # slow to import

    missing = float(ndtr(-shift - ndtri(0.5 + delta)))
    mass = 1.0 - missing * DOWN
    count = len(distances)
    order = int(binom.ppf(1.0 - alpha / 2, count, mass)) + 1
    while order <= count and binom.sf(order - 1, count, mass) > alpha / 2 * DOWN:
        order += 1
    return math.inf if order > count else float(distances.kthvalue(order).values)


def _budget(inside: int, noise: Noise, delta: float) -> float:
    mass = clopper_pearson_lower_bound(inside, noise.n, alpha=noise.alpha / 2)
    quantile = -float(ndtri(1.0 - mass))
    return max(noise.sigma * (quantile - float(ndtri(0.5 + delta)) - 1e-9), 0.0)
