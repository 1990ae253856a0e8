"""Certify the Gaussian-smoothed classifier by sampling."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from robustcl.certify.bounds.confidence import (
    betting_exceeds,
    betting_lower_bound,
    clopper_pearson_lower_bound,
    empirical_bernstein_lower_bound,
)
from robustcl.certify.claim import NO_RIVAL, Claim
from robustcl.certify.decisions import decide_radius
from robustcl.certify.norms import check_certified_norm
from robustcl.certify.smoothed_margins import (
    SLACK,
    Bound,
    Form,
    Pairing,
    Smoothed,
    base_function,
    runner_up,
    smoothed,
    unit_values,
)
from robustcl.certify.smoothing_noise import check_smoothing, choose_pairing
from robustcl.certify.smoothing_samples import noise_streams, noisy_outputs
from robustcl.core.abstention import ABSTAINED
from robustcl.core.batching import retry_smaller
from robustcl.core.checks import check_images
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode
from robustcl.core.special_functions import ndtr, ndtri

__all__ = ["check_smoothing", "smoothing"]
_DOWN = 1.0 - 1e-12
BUNCH = 2**18  # outputs that are held before they are treated
_Found = tuple[int, float, int]
NOTHING: _Found = (ABSTAINED, 0.0, NO_RIVAL)


def smoothing(
    classifier: Classifier,
    images: Tensor,
    *,
    norm: CertifiedNorm = "l2",
    seeds: Sequence[int] | None = None,
    sigma: float = 0.25,
    n: int = 1000,
    n_select: int = 100,
    alpha: float = 0.001,
    form: Form = "vote",
    clip: float = 0.25,
    bound: Bound = "betting",
    target: float = 0.0,
    batch_size: int = 256,
) -> Claim:
    """Certify the prediction of the smoothed classifier, not of the model itself.

    Guarantee: probabilistic, wrong with probability at most alpha per image, up to floating-point
    sampling. Noise N(0, sigma^2) is added to the image before the input normalization, without
    clipping to the box. The class is chosen on n_select samples; n fresh ones bound the margins.
    Where no positive radius follows, the claim is to abstain.

    * form 'vote', the default: the subject takes the most frequent class; r = sigma Phi^-1(p) with
      the Clopper-Pearson bound p > 1/2. (Before version 0.2 the default was 'mean'.)
    * form 'mean': the subject scores by g(x) = E f(x + e), not renormalized; per other class j,
      r_j = sigma [Phi^-1((1 + mu_j)/2) - Phi^-1((1 + t_j)/2)] with a lower confidence bound mu_j
      of a_j.g / |a_j| and t_j = -c_j / |a_j|. It is far smaller than that of 'vote' where classes
      are separated by small angles (`benchmarks/noise_trained_smoothing.py`).
    * form 'clip': the subject takes the class y with E phi(m_j / (|a_j| + |c_j|)) > 0 for all
      other classes j, phi(s) = clip(s / t, -1, 1), and none where there is no such class;
      r_j = sigma Phi^-1((1 + mu_j)/2) with mu_j a bound of that mean. t = 1 is a mean, t -> 0 the
      vote of every pair. Every t is another subject: with `clip=0` each radius is about the
      classifier of the t chosen on the image's selection samples; `choose_clip` finds one for all.

    The nearest other class is one fixed class, so level alpha per pair is enough. A claim about
    all N images at once needs alpha / N.

    Args:
        classifier: Any classifier for 'vote'; a prototype or linear head for 'clip'; for 'mean'
            also embeddings on the sphere.
        images: (B, C, H, W) in [0, 1].
        norm: 'l2'; for 'linf' the L2 radius is divided by sqrt(D).
        seeds: One seed per image; 0, 1, ... by default. The noise is drawn on the model's device.
        sigma: Standard deviation of the noise, in pixel units.
        n: Samples that bound the margins.
        n_select: Samples that choose the class.
        alpha: Probability of a wrong claim, per image.
        form: 'vote', 'mean' or 'clip'.
        clip: t > 0 of the form 'clip', or 0.
        bound: Of the means of 'mean' and 'clip': 'betting', or the looser 'bernstein'.
        target: Where positive, the radius that is to be decided: each image gets it or nothing, by
            up to n samples that end as soon as the answer is clear; see `decide_radius`.
        batch_size: Noisy images per model call.

    Returns:
        A probabilistic claim about the smoothed model.

    Raises:
        InputError: When the seeds are not one per image; what `check_smoothing` refuses is refused.

    Reference:
        Cohen et al., Certified Adversarial Robustness via Randomized Smoothing, ICML 2019,
        theorem 1 and algorithm CERTIFY; Salman et al., NeurIPS 2019, lemma 2 (bounded means).
    """
    options = {"sigma": sigma, "n": n, "n_select": n_select, "alpha": alpha}
    check_smoothing(classifier, **options, form=form, clip=clip, bound=bound, target=target)
    check_certified_norm(norm)
    images = check_images(images, classifier.image_shape)
    if seeds is not None and len(seeds) != len(images):
        raise InputError(f"{len(seeds)} seeds for {len(images)} images; give one each")
    common = {"norm": norm, "seeds": seeds, "form": form, "clip": clip, "batch_size": batch_size}
    if target:
        return decide_radius(classifier, images, radius=target, **common, **options).claim
    terms = smoothed(classifier, form=form, sigma=sigma, clip=clip)
    images = images.to(classifier.encoder.mean.device)

    def attempt(size: int) -> list[_Found]:
        found: list[_Found] = []
        outputs = noisy_outputs(
            base_function(classifier, form),
            images,
            noise_streams(images, seeds),
            sigma=sigma,
            count=n_select + n,
            batch_size=size,
        )
        for rows in _bunched(outputs) if images.device.type == "cpu" else outputs:
            chosen, fresh = rows.numpy()[:n_select], rows.numpy()[n_select:]
            found.append(_certify(chosen, fresh, terms, alpha, bound))
        return found

    with torch.no_grad(), eval_mode(classifier):
        found = retry_smaller(attempt, batch_size, what="noisy images per call:")
    predicted, radii, others = zip(*found, strict=True)
    scale = 1.0 if norm == "l2" else _DOWN / float(np.sqrt(images[0].numel()))
    radius = torch.tensor(radii, dtype=torch.float64) * scale
    return Claim(
        "smoothing",
        norm,
        "probabilistic",
        terms.subject,
        torch.tensor(predicted),
        radius,
        torch.tensor(others),
    )


def _bunched(outputs: Iterator[Tensor]) -> Iterator[Tensor]:
    # The same, sampled many images ahead. On a CPU, taking turns with the network for every image
    # empties the cache of both; on a GPU turns let it go on meanwhile.
    held: list[Tensor] = []
    for rows in outputs:
        held.append(rows)
        if len(held) * rows.numel() >= BUNCH:
            yield from held
            held.clear()
    yield from held


def _certify(
    chosen: np.ndarray, fresh: np.ndarray, terms: Smoothed, alpha: float, bound: Bound
) -> _Found:
    choice = choose_pairing(chosen, terms, n=len(fresh), alpha=alpha)
    if choice is None:
        return NOTHING
    pair, terms = choice
    if terms.form == "vote":
        successes = int(unit_values(fresh, pair, terms).sum())
        share = clopper_pearson_lower_bound(successes, len(fresh), alpha=alpha)
        radius, rival = _quantile(np.array(share)), runner_up(fresh, terms, pair.top)
    elif not pair.matters.any():
        return pair.top, np.inf, NO_RIVAL
    elif np.isinf(pair.offset[pair.matters]).any():
        return NOTHING
    else:
        radius, rival = _smallest_radius(fresh, pair, terms, alpha, bound)
    radius = float(radius) * terms.sigma * _DOWN
    return (pair.top, radius, rival) if radius > 0 else NOTHING


def _smallest_radius(
    outputs: np.ndarray, pair: Pairing, terms: Smoothed, alpha: float, bound: Bound
) -> tuple[float, int]:
    # In units of sigma. Betting is bounded for the other class that looks nearest; the others need
    # only be shown to be no nearer, which takes one evaluation of the capital instead of a search.
    others = np.flatnonzero(pair.matters)
    values, offset = unit_values(outputs, pair, terms)[:, others], pair.offset[others]
    if bound == "bernstein":
        radii = _quantile(empirical_bernstein_lower_bound(values, alpha=alpha)) - offset
        return float(radii.min()), int(others[radii.argmin()])
    first = int((ndtri(np.clip(values.mean(axis=0), 1e-15, 1.0 - 1e-15)) - offset).argmin())
    lower = betting_lower_bound(values[:, [first]], alpha=alpha)
    radii = np.full(len(others), np.inf)
    radii[first] = _quantile(lower)[0] - offset[first]
    needed = np.minimum(ndtr(radii[first] + offset) + 2.0 * SLACK, 1.0)
    nearer = ~betting_exceeds(values, needed, alpha=alpha)
    nearer[first] = False
    if nearer.any():
        lower = betting_lower_bound(values[:, nearer], alpha=alpha)
        radii[nearer] = _quantile(lower) - offset[nearer]
    return float(radii.min()), int(others[radii.argmin()])


def _quantile(mean: np.ndarray) -> np.ndarray:
    # Phi^-1(mean), rounded down, written so that no digits are lost near 1.
    return -np.asarray(ndtri(np.minimum(1.0 - mean + SLACK, 1.0)))
