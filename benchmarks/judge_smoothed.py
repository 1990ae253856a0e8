"""Say by fresh samples whether a smoothed model answers another class at the end of an attack."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.special import ndtr
from scipy.stats import binom
from torch import Tensor

from benchmarks.smoothed_attacks import Target
from robustcl.certify.bounds.confidence import empirical_bernstein_lower_bound
from robustcl.certify.smoothed_margins import (
    Form,
    Smoothed,
    base_function,
    margin_pairing,
    unit_values,
)
from robustcl.certify.smoothing_samples import noise_streams, noisy_outputs
from robustcl.core.classifier import Classifier
from robustcl.core.seeds import example_seed

SCREEN, CONFIRM, BETA, ERRORS, BATCH = 1_000, 20_000, 1e-6, 3.0, 512


def samples(
    classifier: Classifier, form: Form, sigma: float, points: Tensor, seeds: list[int], count: int
) -> list[np.ndarray]:
    """Draw the base function's outputs on fresh noisy copies.

    Args:
        classifier: The base classifier.
        form: Of the smoothed model.
        sigma: Of the noise.
        points: (B, C, H, W).
        seeds: One per point.
        count: Copies of each.

    Returns:
        (count, K or 1) per point.
    """
    with torch.no_grad():
        drawn = noisy_outputs(
            base_function(classifier, form), points, noise_streams(points, seeds),
            sigma=sigma, count=count, batch_size=BATCH,
        )  # fmt: skip
        return [rows.numpy() for rows in drawn]


def excesses(rows: np.ndarray, terms: Smoothed, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Estimate by how much each class beats the certified one.

    Args:
        rows: (n, K or 1) outputs.
        terms: The smoothed model.
        top: The certified class.

    Returns:
        (K,) estimates, positive where the class leads, and their standard errors.
    """
    if terms.form == "vote":
        counts = np.bincount(rows[rows >= 0].astype(int), minlength=terms.classes) / len(rows)
        lead = counts - counts[top]
        errors = np.sqrt(np.maximum(counts + counts[top] - lead**2, 0.0) / len(rows))
        lead[top] = -np.inf
        return lead, errors
    pair = margin_pairing(terms, top)
    values = unit_values(rows, pair, terms)
    lead = np.where(pair.matters, ndtr(pair.offset) - values.mean(axis=0), -np.inf)
    return lead, values.std(axis=0) / np.sqrt(len(rows))


def confirmed(rows: np.ndarray, terms: Smoothed, top: int, rival: int, level: float) -> bool:
    """Test whether the smoothed model answers another class than the certified one.

    Args:
        rows: (n, K or 1) fresh outputs.
        terms: The smoothed model.
        top: The certified class.
        rival: The class that was seen to lead on other samples.
        level: Probability of a wrong yes.

    Returns:
        Whether they show that the other class beats the class.
    """
    if terms.form == "vote":
        wins, losses = (int((rows == label).sum()) for label in (rival, top))
        return bool(binom.sf(wins - 1, wins + losses, 0.5) <= level)
    pair = margin_pairing(terms, top)
    values = 1.0 - unit_values(rows, pair, terms)[:, [rival]]
    lower = float(empirical_bernstein_lower_bound(values, alpha=level)[0])
    return lower > 1.0 - float(ndtr(pair.offset[rival]))


@dataclass(frozen=True)
class Judgment:
    """Say what fresh samples show at the end of an attack.

    Args:
        lead: Of the best other class over the certified class on the samples that chose it.
        verdict: Whether the claim held, was violated, or looks so without being confirmed.
    """

    lead: float
    verdict: Literal["held", "undecided", "violated"]


def judge(target: Target, points: Tensor, purpose: str) -> list[Judgment]:
    """Look at the points of an attack with fresh samples.

    Args:
        target: What was attacked.
        points: (B, C, H, W).
        purpose: Of the noise, so that no other use has the same.

    Returns:
        One per image.
    """
    terms, form = target.terms, target.terms.form
    screen = [example_seed(0, seed, f"{purpose}/screen") for seed in target.seeds]
    found = []
    looked = samples(target.classifier, form, terms.sigma, points, screen, SCREEN)
    for row, (outputs, top) in enumerate(zip(looked, target.tops.tolist(), strict=True)):
        lead, errors = excesses(outputs, terms, top)
        rival = int(lead.argmax())
        verdict: Literal["held", "undecided", "violated"] = "held"
        if lead[rival] + ERRORS * errors[rival] > 0:
            seed = example_seed(0, target.seeds[row], f"{purpose}/confirm")
            (fresh,) = samples(target.classifier, form, terms.sigma, points[[row]], [seed], CONFIRM)
            ahead = excesses(fresh, terms, top)[0][rival] > 0
            sure = confirmed(fresh, terms, top, rival, BETA)
            verdict = "violated" if sure else "undecided" if ahead else "held"
        found.append(Judgment(round(float(lead[rival]), 4), verdict))
    return found
