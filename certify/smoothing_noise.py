"""Choose what smoothing needs: pairing and clipping; check its options."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from robustcl.certify.pairs import affine_head
from robustcl.certify.smoothed_margins import (
    Pairing,
    Smoothed,
    base_function,
    margin_pairing,
    smoothed,
    unit_values,
    votes,
)
from robustcl.certify.smoothing_samples import noise_streams, noisy_outputs
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError, UnsupportedError
from robustcl.core.modules import eval_mode
from robustcl.core.special_functions import ndtri


def choose_clip(
    classifier: Classifier,
    images: Tensor,
    *,
    seeds: Sequence[int] | None = None,
    sigma: float = 0.25,
    n: int = 1000,
    n_select: int = 100,
    alpha: float = 0.001,
    batch_size: int = 256,
) -> float:
    """Choose one t for `smoothing:form=clip` on images that are not certified afterwards.

    Every t is another smoothed classifier. With one t for all images the radii are about one
    classifier, as they are not where t is chosen per image. Nothing is claimed here.

    Args:
        classifier: The base classifier, with a prototype or linear head.
        images: (B, C, H, W) in [0, 1], for instance from the training set.
        seeds: One seed per image; 0, 1, ... by default.
        sigma: Standard deviation of the noise.
        n: Samples that will bound the margins.
        n_select: Samples used here, per image.
        alpha: Level of the certificate to come.
        batch_size: Noisy images per model call.

    Returns:
        t with the largest radius foreseen, on average over the images; those without a class that
        wins all pairs count 0.
    """
    check_smoothing(classifier, sigma=sigma, n=n, n_select=n_select, alpha=alpha, form="clip")
    terms = smoothed(classifier, form="clip", sigma=sigma, clip=0.0)
    images = images.to(classifier.encoder.mean.device)
    with torch.no_grad(), eval_mode(classifier):
        outputs = noisy_outputs(
            base_function(classifier, "clip"),
            images,
            noise_streams(images, seeds),
            sigma=sigma,
            count=n_select,
            batch_size=batch_size,
        )
        samples = [rows.numpy() for rows in outputs]
    return best_clip(samples, terms, n=n, alpha=alpha)


CLIPS = 0.5 ** np.arange(8)


def choose_pairing(
    outputs: np.ndarray, terms: Smoothed, *, n: int, alpha: float
) -> tuple[Pairing, Smoothed] | None:
    """Choose the class, and t where it is open, on samples kept for this purpose.

    Args:
        outputs: (n_select, K or 1) outputs z.
        terms: The smoothed classifier.
        n: Samples that will bound the margins, for the choice of t.
        alpha: Their level, likewise.

    Returns:
        The comparisons with the class that won, and the terms with t filled in; None where no class
        wins all pairs.
    """
    if terms.form == "vote":
        top = int(votes(outputs, terms).argmax())
        ones = np.ones(1)
        return Pairing(top, 0 * ones, ones, 0 * ones, ones > 0), terms
    if terms.form == "mean":
        top = int((np.nan_to_num(outputs).mean(axis=0) + terms.bias).argmax())
        return margin_pairing(terms, top), terms
    if terms.clip:
        winner = _winner_of_all_pairs(outputs, terms)
        return None if winner is None else (winner, terms)
    best = best_clip([outputs], terms, n=n, alpha=alpha)
    winner = _winner_of_all_pairs(outputs, replace(terms, clip=best))
    return None if winner is None else (winner, replace(terms, clip=best))


def best_clip(samples: list[np.ndarray], terms: Smoothed, *, n: int, alpha: float) -> float:
    """Choose t so that the radius foreseen for n samples is largest, on average over images.

    Args:
        samples: Outputs z, (n_select, K) per image.
        terms: The smoothed classifier, of the form 'clip'.
        n: Samples that will bound the margins.
        alpha: Their level.

    Returns:
        The best of 1, 1/2, ..., 1/128; for scores that are not on the sphere times the largest
        relative margin among the samples.
    """
    largest = 1.0 if terms.sphere else max(_largest_margin(z, terms) for z in samples)
    choices = (largest or 1.0) * CLIPS
    foreseen = [
        sum(_foreseen_radius(z, replace(terms, clip=float(t)), n, alpha) for z in samples)
        for t in choices
    ]
    return float(choices[int(np.argmax(foreseen))])


def _largest_margin(outputs: np.ndarray, terms: Smoothed) -> float:
    outputs = outputs[np.isfinite(outputs).all(axis=1)]
    if not len(outputs):
        return 0.0
    pair = margin_pairing(
        replace(terms, clip=1.0), int((outputs.mean(axis=0) + terms.bias).argmax())
    )
    margins = (outputs[:, pair.top, None] - outputs + pair.shift) / pair.scale
    return float(np.abs(margins[:, pair.matters]).max(initial=0.0))


def _foreseen_radius(outputs: np.ndarray, terms: Smoothed, n: int, alpha: float) -> float:
    # Bernstein's width from the moments of the selection samples, with one sample at 1/2 added.
    pair = _winner_of_all_pairs(outputs, terms)
    if pair is None or not pair.matters.any() or np.isinf(pair.offset[pair.matters]).any():
        return 0.0
    values = unit_values(outputs, pair, terms)[:, pair.matters]
    values = np.vstack([values, np.full((1, values.shape[1]), 0.5)])
    log = np.log(1.0 / alpha)
    lower = values.mean(axis=0) - np.sqrt(2.0 * values.var(axis=0) * log / n) - log / n
    return max(float(ndtri(np.clip(lower, 0.0, 1.0)).min()), 0.0)


def _winner_of_all_pairs(outputs: np.ndarray, terms: Smoothed) -> Pairing | None:
    # Begin with the highest mean score and go on with whoever beats the current class most clearly.
    top = int((np.nan_to_num(outputs).mean(axis=0) + terms.bias).argmax())
    for _ in range(terms.classes):
        pair = margin_pairing(terms, top)
        means = np.where(pair.matters, unit_values(outputs, pair, terms).mean(axis=0), 1.0)
        if means.min() > 0.5:
            return pair
        top = int(means.argmin())
    return None


FORMS, BOUNDS = ("vote", "mean", "clip"), ("betting", "bernstein")


def check_smoothing(
    classifier: Classifier,
    *,
    sigma: float = 0.25,
    n: int = 1000,
    n_select: int = 100,
    alpha: float = 0.001,
    form: str = "vote",
    clip: float = 0.25,
    bound: str = "betting",
    target: float = 0.0,
) -> None:
    """Refuse options that are out of range, and classifiers that the form cannot treat.

    Args:
        classifier: The classifier.
        sigma: See `smoothing`, as for the others.
        n: Samples that bound the margins.
        n_select: Samples that choose the class.
        alpha: Probability of a wrong claim.
        form: 'vote', 'mean' or 'clip'.
        clip: t of the form 'clip'; 0 to choose it per image.
        bound: 'betting' or 'bernstein'.
        target: Radius that is to be decided; 0 for none.

    Raises:
        InputError: When an option is out of range.
        UnsupportedError: When the form does not apply.
    """
    if form not in FORMS:
        raise InputError(f"unknown form {form!r} of smoothing; use vote, mean or clip")
    if bound not in BOUNDS:
        raise InputError(f"unknown bound {bound!r} of smoothing; use betting or bernstein")
    if bound == "bernstein" and (form == "vote" or target):
        raise InputError("bound=bernstein is for form=mean or clip without target; leave it out")
    if not 0 < sigma < np.inf:
        raise InputError(f"sigma {sigma} is not positive and finite; try 0.25")
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha {alpha} is not between 0 and 0.5; try 0.001")
    if n < 2 or n_select < 1:
        raise InputError(f"n {n} or n_select {n_select} is too small; try n=1000,n_select=100")
    if not 0 <= clip < np.inf or not 0 <= target < np.inf:
        raise InputError(f"clip {clip} or target {target} is negative or infinite; 0 is automatic")
    if form == "vote":
        return
    affine_head(classifier, method=f"smoothing:form={form}")
    if form == "mean" and not classifier.normalizes:
        raise UnsupportedError(
            "smoothing:form=mean needs embeddings on the unit sphere, since its theorem needs "
            "bounded scores; use smoothing:form=vote or form=clip"
        )
