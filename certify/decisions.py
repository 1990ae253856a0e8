"""Decide whether the smoothed classifier is certified at a given radius, with few samples."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from robustcl.certify.bounds.confidence import log_capital, log_growth, stake_shares
from robustcl.certify.claim import NO_RIVAL, Claim
from robustcl.certify.norms import check_certified_norm
from robustcl.certify.smoothed_margins import (
    SLACK,
    Form,
    Pairing,
    Smoothed,
    base_function,
    runner_up,
    smoothed,
    unit_values,
)
from robustcl.certify.smoothing_noise import check_smoothing, choose_pairing
from robustcl.certify.smoothing_samples import add_noise, noise_streams, noisy_outputs
from robustcl.core.abstention import ABSTAINED
from robustcl.core.batching import fixed_size
from robustcl.core.checks import check_images
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode
from robustcl.core.special_functions import ndtr

_Outcome = Literal["proved", "given up", "undecided"]
STEP = 32  # samples of an image between two looks; part of the noise stream's definition


@dataclass(frozen=True, eq=False)
class Decision:
    """Say which images are certified at the radius that was asked about.

    Args:
        claim: The radius asked about where it is proved, else abstention. Probabilistic: per
            image wrong with probability at most alpha.
        outcome: Per image 'proved'; 'given up': it is not so, or n samples cannot show it; or
            'undecided' after n samples. Nothing is claimed by the last two.
        samples: (B,) noisy copies that were looked at, those for the choice of the class included.
    """

    claim: Claim
    outcome: tuple[_Outcome, ...]
    samples: Tensor


def decide_radius(
    classifier: Classifier,
    images: Tensor,
    *,
    radius: float,
    norm: CertifiedNorm = "l2",
    seeds: Sequence[int] | None = None,
    sigma: float = 0.25,
    n: int = 1000,
    n_select: int = 100,
    alpha: float = 0.001,
    beta: float = 0.01,
    form: Form = "vote",
    clip: float = 0.25,
    batch_size: int = 256,
) -> Decision:
    """Draw samples until it is clear whether the smoothed classifier is certified at a radius.

    Subject and theorem are those of `smoothing`: with the class chosen on n_select samples, class j
    cannot overtake within r when E x_j > Phi(r / sigma + offset_j) for a variable x_j in [0, 1].
    Per other class one bets against that mean, and stops when every bet has reached 1/alpha: a
    capital that is a supermartingale while the mean is no larger ever does so with probability at
    most alpha, so looking after every 32 samples costs nothing. Since one fixed other class makes a
    false claim false, level alpha per other class is enough. Bets on the other side only end the
    search: at 1/beta, for any other class, or when the samples left cannot suffice, it is given up.

    Args:
        classifier: As for `smoothing`.
        images: (B, C, H, W) in [0, 1].
        radius: r > 0 in the norm; for 'linf' sqrt(D) r is asked about in L2.
        norm: 'l2' or 'linf'.
        seeds: One seed per image; 0, 1, ... by default.
        sigma: Standard deviation of the noise, in pixel units.
        n: Samples per image at most, after those for the class.
        n_select: Samples that choose the class.
        alpha: Probability of a wrong claim, per image.
        beta: Level at which a radius is given up; it costs power, never validity.
        form: 'mean', 'vote' or 'clip'.
        clip: t of the form 'clip', or 0 to choose it per image.
        batch_size: Noisy images per model call; a batch serves several images.

    Returns:
        The decision. An image's part of it does not depend on the batch size nor on other images.

    Raises:
        InputError: When the radius or beta is out of range, or the seeds are not one per image;
            what `check_smoothing` refuses is refused.

    Reference:
        Waudby-Smith and Ramdas, JRSS B 2023 (capital processes); Cohen et al. 2019, theorem 1.
    """
    check_smoothing(
        classifier, sigma=sigma, n=n, n_select=n_select, alpha=alpha, form=form, clip=clip
    )
    check_certified_norm(norm)
    images = check_images(images, classifier.image_shape)
    if not 0 < radius < np.inf or not 0 < beta < 1:
        raise InputError(f"radius {radius} or beta {beta} is out of range; try radius=0.25")
    if seeds is not None and len(seeds) != len(images):
        raise InputError(f"{len(seeds)} seeds for {len(images)} images; give one each")
    terms = smoothed(classifier, form=form, sigma=sigma, clip=clip)
    images = images.to(classifier.encoder.mean.device)
    streams = noise_streams(images, seeds)
    function = base_function(classifier, form)
    far = radius * (1.0 if norm == "l2" else float(np.sqrt(images[0].numel())) * (1.0 + SLACK))
    with torch.no_grad(), eval_mode(classifier):
        chosen = noisy_outputs(
            function, images, streams, sigma=sigma, count=n_select, batch_size=batch_size
        )
        bets = [_open(rows.numpy(), terms, far, n, alpha, beta) for rows in chosen]
        _play(bets, _Source(function, images, streams, sigma, batch_size))
    return _decision(bets, terms, radius, norm, n_select)


@dataclass(frozen=True, eq=False)
class _Bet:
    # The game on one image.
    top: int
    rival: int
    pair: Pairing | None
    terms: Smoothed
    means: np.ndarray  # (J,) the means bet against
    shares: np.ndarray
    budget: int
    logs: tuple[float, float]  # log(1/alpha), log(1/beta)
    growth: np.ndarray  # (2, J, G): for a larger mean, and for a smaller one
    others: np.ndarray  # (J,) positions of the other classes whose bet still runs
    outcome: _Outcome | None = None
    used: int = 0


@dataclass(frozen=True, eq=False)
class _Source:
    function: Callable[[Tensor], Tensor]
    images: Tensor
    streams: Sequence[torch.Generator]
    sigma: float
    batch_size: int


def _open(
    rows: np.ndarray, terms: Smoothed, radius: float, n: int, alpha: float, beta: float
) -> _Bet:
    choice = choose_pairing(rows, terms, n=n, alpha=alpha)
    shares = stake_shares(n, alpha=alpha)
    logs = (float(np.log(1.0 / alpha)) + 1e-9, float(np.log(1.0 / beta)))
    nothing = np.zeros(0)
    if choice is None:
        growth = np.zeros((2, 0, len(shares)))
        return _Bet(
            ABSTAINED, NO_RIVAL, None, terms, nothing, shares, n, logs, growth, nothing, "given up"
        )
    pair, terms = choice
    others = np.flatnonzero(pair.matters)
    means = np.minimum(ndtr(radius / terms.sigma + pair.offset[others]) + 2.0 * SLACK, 1.0)
    growth = np.zeros((2, len(others), len(shares)))
    rival = runner_up(rows, terms, pair.top) if terms.form == "vote" else NO_RIVAL
    bet = _Bet(pair.top, rival, pair, terms, means, shares, n, logs, growth, others)
    if not len(others):
        return replace(bet, outcome="proved")
    hopeless = bool((means > 1.0 - 1e-9).any()) or _too_late(bet)
    return replace(bet, outcome="given up") if hopeless else bet


def _play(bets: list[_Bet], source: _Source) -> None:
    # Every round fills one batch with steps of several images; with few images left they take more
    # than one step each, and what comes after the decision is dropped.
    slots = max(1, source.batch_size // STEP)
    running = [row for row, bet in enumerate(bets) if bet.outcome is None]
    while running:
        rows = running[:slots]
        steps = max(1, slots // len(rows))
        for row, outputs in zip(rows, _draw(source, rows, steps), strict=True):
            for step in outputs:
                bets[row] = _look(bets[row], step)
        running = [row for row in running if bets[row].outcome is None]


def _draw(source: _Source, rows: list[int], steps: int) -> Iterator[np.ndarray]:
    shape = source.images.shape[1:]
    points = source.images.new_empty(len(rows), steps, STEP, *shape)
    for block, row in zip(points, rows, strict=True):
        for step in block:
            add_noise(step, source.images[row], source.streams[row], source.sigma)
    outputs = fixed_size(source.function, points.flatten(0, 2), batch_size=source.batch_size)
    yield from outputs.cpu().numpy().reshape(len(rows), steps, STEP, -1)


def _look(bet: _Bet, outputs: np.ndarray) -> _Bet:
    if bet.outcome is not None or bet.pair is None:
        return bet
    outputs = outputs[: bet.budget - bet.used]
    values = unit_values(outputs, bet.pair, bet.terms)[:, bet.others]
    up = bet.growth[0] + log_growth(values, bet.means, bet.shares)
    down = bet.growth[1] + log_growth(1.0 - values, 1.0 - bet.means, bet.shares)
    bet = replace(bet, growth=np.stack([up, down]), used=bet.used + len(outputs))
    larger, smaller = log_capital(bet.growth)
    left = larger < bet.logs[0]
    if not left.any():
        last = bet.rival if bet.terms.form == "vote" else int(bet.others[larger.argmin()])
        return replace(bet, outcome="proved", rival=last)
    if bool((smaller >= bet.logs[1]).any()):
        return replace(bet, outcome="given up")
    if bet.used >= bet.budget:
        return replace(bet, outcome="undecided")
    # A bet that was won stays won, and needs no more samples.
    rest = replace(bet, others=bet.others[left], means=bet.means[left], growth=bet.growth[:, left])
    return replace(rest, outcome="given up") if _too_late(rest) else rest


def _too_late(bet: _Bet) -> bool:
    # Even if all samples to come were 1.
    best = np.log1p(bet.shares * (1.0 / bet.means[:, None] - 1.0)) * (bet.budget - bet.used)
    return bool((log_capital(bet.growth[0] + best) < bet.logs[0]).any())


def _decision(
    bets: list[_Bet], terms: Smoothed, radius: float, norm: CertifiedNorm, n_select: int
) -> Decision:
    won = [bet.outcome == "proved" for bet in bets]
    claim = Claim(
        "smoothing",
        norm,
        "probabilistic",
        terms.subject,
        torch.tensor([bet.top if ok else ABSTAINED for bet, ok in zip(bets, won, strict=True)]),
        torch.tensor([radius if ok else 0.0 for ok in won], dtype=torch.float64),
        torch.tensor([bet.rival if ok else NO_RIVAL for bet, ok in zip(bets, won, strict=True)]),
    )
    outcomes: tuple[_Outcome, ...] = tuple(bet.outcome or "undecided" for bet in bets)
    return Decision(claim, outcomes, torch.tensor([n_select + bet.used for bet in bets]))
