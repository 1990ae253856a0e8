"""Choose the class that is to be certified, and t, on samples kept for this purpose."""

from dataclasses import replace

import numpy as np

from robustcl.certify.smoothed_margins import Pairing, Smoothed, pairing, unit_values, votes
from robustcl.core.special_functions import ndtri

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
        return pairing(terms, top), terms
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
    pair = pairing(replace(terms, clip=1.0), int((outputs.mean(axis=0) + terms.bias).argmax()))
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
        pair = pairing(terms, top)
        means = np.where(pair.matters, unit_values(outputs, pair, terms).mean(axis=0), 1.0)
        if means.min() > 0.5:
            return pair
        top = int(means.argmin())
    return None
