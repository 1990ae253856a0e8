"""Count the samples that decide "certified at r": anytime betting against a fixed number.

The peer is Cohen's procedure, written here from the paper: n0 samples choose the class, n more
give the Clopper-Pearson bound, and the image is certified at r when the bound exceeds
Phi(r / sigma). Both have the same alpha. Power is made equal by the budget: the anytime test may
draw up to N > n samples, the smallest of a few multiples of n with which it certifies at least as
many images as the peer (`equal_power` says whether one was found).

* Synthetic: the probability p of the top class is Phi(margin / sigma); margins / sigma are drawn
  from N(1.5, 1) or U(0, 3), or stand at the point where the fixed n has power .9, where a
  sequential test gains least. r = sigma.
* Digits: the demo's encoder, trained here in about 20 s; test images, radius .25.

Run: python benchmarks/smoothing_samples.py [--n 10000] [--images 150] [--skip-digits]
"""

import argparse
import json

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import beta, binom, norm

from robustcl.certify.bounds.confidence import log_capital, stake_shares
from robustcl.certify.decisions import STEP, decide_radius
from robustcl.core.classifier import Classifier, Encoder
from robustcl.data import load_data
from robustcl.models.encoders import small_convnet
from robustcl.models.heads.fitting import fit_head
from robustcl.training import DEMO_ARCHITECTURE, DEMO_RECIPE, train_encoder

MULTIPLES = (1.0, 1.25, 1.5, 2.0, 3.0)
BETA = 0.01


def cohen_counts_needed(n: int, share: float, alpha: float) -> int:
    """Find the fewest votes for the top class whose Clopper-Pearson bound exceeds a share.

    Returns:
        The number, n + 1 where there is none.
    """
    votes = np.arange(1, n + 1)
    bounds = beta.ppf(alpha, votes, n - votes + 1)
    passing = votes[bounds > share]
    return int(passing[0]) if len(passing) else n + 1


def cohen(classifier, image, generator, *, sigma, n, n0, alpha, radius, batch=1000) -> bool:
    """Certify one image by the procedure of Cohen, Rosenfeld and Kolter (2019).

    Returns:
        Whether the radius is certified.
    """

    def sample_under_noise(count: int) -> np.ndarray:
        counts = torch.zeros(classifier.num_classes, dtype=torch.int64)
        for start in range(0, count, batch):
            shape = (min(batch, count - start), *image.shape)
            noise = torch.randn(shape, generator=generator)
            winners = classifier(image + sigma * noise).argmax(1)
            counts += torch.bincount(winners, minlength=len(counts))
        return counts.numpy()

    top = int(sample_under_noise(n0).argmax())
    votes = int(sample_under_noise(n)[top])
    lower = 0.0 if votes == 0 else float(beta.ppf(alpha, votes, n - votes + 1))
    return lower > 0.5 and sigma * float(norm.ppf(lower)) >= radius


def anytime(shares_of_votes: np.ndarray, share: float, budget: int, alpha: float, draws):
    """Play the game of `decide_radius` on coins.

    Returns:
        Per coin whether the share is proved, and the samples drawn.
    """
    stakes = stake_shares(budget, alpha=alpha)
    up, up_lost = np.log1p(stakes * (1 / share - 1)), np.log1p(-stakes)
    down, down_lost = np.log1p(stakes * (1 / (1 - share) - 1)), np.log1p(-stakes)
    size = len(shares_of_votes)
    proved, samples = np.zeros(size, bool), np.zeros(size, int)
    votes, running = np.zeros(size, int), np.arange(size)
    while len(running):
        step = min(STEP, budget - int(samples[running[0]]))
        votes[running] += draws.binomial(step, shares_of_votes[running])
        samples[running] += step
        won, drawn = votes[running, None], samples[running, None]
        larger = log_capital(won * up + (drawn - won) * up_lost)
        smaller = log_capital((drawn - won) * down + won * down_lost)
        best = log_capital(won * up + (drawn - won) * up_lost + (budget - drawn) * up)
        done = larger >= np.log(1 / alpha)
        proved[running[done]] = True
        over = (smaller >= np.log(1 / BETA)) | (samples[running] >= budget)
        running = running[~(done | over | (best < np.log(1 / alpha)))]
    return proved, samples


def synthetic(name: str, n: int, n0: int, alpha: float, runs: int = 4000) -> dict:
    draws = np.random.default_rng(0)
    share = float(ndtr(1.0))
    needed = cohen_counts_needed(n, share, alpha)
    if name == "design point":
        chances = np.full(runs, brentq(lambda p: binom.sf(needed - 1, n, p) - 0.9, share, 1 - 1e-9))
    else:
        normal = name == "N(1.5, 1)"
        margins = draws.normal(1.5, 1.0, runs) if normal else draws.uniform(0, 3, runs)
        chances = ndtr(margins)
    fixed = float(binom.sf(needed - 1, n, chances).mean())
    result = {}
    for multiple in MULTIPLES:
        budget = round(multiple * n)
        proved, samples = anytime(chances, share, budget, alpha, draws)
        equal = bool(proved.mean() >= fixed - 1e-3)
        result = summary(n + n0, float((samples + n0).mean()), fixed, float(proved.mean()), budget)
        result["equal_power"] = equal
        if equal:
            break
    return {"margins": name, **result}


def summary(fixed: float, mean: float, power: float, own: float, budget: int) -> dict:
    return {
        "fixed_samples": fixed,
        "anytime_samples_mean": round(mean, 1),
        "times_fewer": round(fixed / mean, 2),
        "fixed_certified": round(power, 4),
        "anytime_certified": round(own, 4),
        "anytime_budget": budget,
    }


def demo_model() -> Classifier:
    train = load_data("digits", split="train", seed=0)
    torch.manual_seed(0)
    encoder = Encoder(small_convnet(**DEMO_ARCHITECTURE), image_shape=train.image_shape)
    train_encoder(encoder, train, DEMO_RECIPE, progress=False)
    return fit_head(encoder, train, kind="prototype").eval()


def digits(images: int, ns: list[int], n0: int, alpha: float, radius: float) -> list[dict]:
    classifier, sigma = demo_model(), 0.25
    batch = next(iter(load_data("digits", split="test", seed=0).batches(images)))
    points, found = batch.images, []
    for n in ns:
        options = {"sigma": sigma, "n": n, "alpha": alpha, "radius": radius}
        with torch.no_grad():
            peer = [
                cohen(classifier, x, torch.Generator().manual_seed(10**6 + row), n0=n0, **options)
                for row, x in enumerate(points)
            ]
        result = {}
        for multiple in MULTIPLES:
            budget = round(multiple * n)
            run = decide_radius(
                classifier, points, **{**options, "n": budget}, n_select=n0, beta=BETA, form="vote"
            )
            own = np.array(run.outcome) == "proved"
            mean = float(run.samples.double().mean())
            result = summary(n + n0, mean, float(np.mean(peer)), float(own.mean()), budget)
            result["equal_power"] = bool(own.mean() >= np.mean(peer))
            if result["equal_power"]:
                break
        found.append({"n": n, "radius": radius, "images": len(points), **result})
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--digits-n", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--n-select", type=int, default=100)
    parser.add_argument("--alpha", type=float, default=0.001)
    parser.add_argument("--radius", type=float, nargs="+", default=[0.25, 0.5])
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--skip-digits", action="store_true")
    options = parser.parse_args()
    made = [
        {"n": n, **synthetic(name, n, options.n_select, options.alpha)}
        for n in options.n
        for name in ("N(1.5, 1)", "U(0, 3)", "design point")
    ]
    trained = []
    if not options.skip_digits:
        for radius in options.radius:
            trained += digits(
                options.images, options.digits_n, options.n_select, options.alpha, radius
            )
    print(json.dumps({"synthetic": made, "digits": trained, **vars(options)}, indent=1))


if __name__ == "__main__":
    main()
