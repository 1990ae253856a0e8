"""Time CLEVER against that of the Adversarial Robustness Toolbox (ART), and compare the scores.

Both get the same network, images, ball, and numbers of points, batches and samples per batch, and
give the smallest score over all other classes (`clever` here, `clever_u` there). Weights take no
gradient, which saves ART work. Runs alternate, each with fresh seeds, and times are compared as a
median of ratios. Scores are compared per image: `difference` is the mean of ours less ART's over
ART's, `one_run` the deviation of one ART run from its mean, relative; `errors` the difference of
the means over all images and runs in its standard errors; `of_medians` compares the medians over
runs, since some of ART's fits go astray.

The two fit the same distribution, but ART starts from one shape and often ends at the largest slope
sampled. `same_fit` compares again with our slopes fitted by ART's call, so that only the sampling
differs.

ART is no dependency: name a folder that holds it (pip install --target FOLDER --no-deps
adversarial-robustness-toolbox six) in ROBUSTCL_ART. Without it the benchmark is skipped.

Run: ROBUSTCL_ART=FOLDER python benchmarks/clever_against_art.py [--network cifar_resnet18]
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from scipy.optimize import fmin
from scipy.stats import weibull_min
from torch import Tensor, nn

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import robustcl.certify._clever  # noqa: F401 the module, which the function hides in its package
from benchmarks.provenance import provenance, record
from robustcl.core.classifier import Classifier
from robustcl.models.encoders import ARCHITECTURES
from robustcl.studies.peers._art_clever import Sampling, Scores, art_scores, our_scores
from robustcl.studies.peers.comparison import AbsentError, import_peer

CLEVER = sys.modules["robustcl.certify._clever"]
CLASSES = 10


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", default="small_convnet", choices=sorted(ARCHITECTURES))
    parser.add_argument("--norm", default="l2", choices=["l2", "linf"])
    parser.add_argument("--ball", type=float, default=0.0, help="0: 0.5 for l2, 0.02 for linf")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=40)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="append the JSON line here")
    return parser.parse_args()


def network(chosen: argparse.Namespace) -> nn.Module:
    torch.manual_seed(0)
    build = ARCHITECTURES[chosen.network]
    built = build(embedding_size=10).eval().requires_grad_(False)
    return built.to(chosen.device)


def quiet_simplex(loss: Any, start: Any, **rest: Any) -> Any:
    return fmin(loss, start, **{**rest, "disp": 0})


def fitted_by_art(maxima: Tensor) -> Tensor:
    flat = maxima.double().flatten(1).numpy()
    ends = []
    for column in flat.T:
        found: Any = (
            weibull_min.fit(-column, 1.0, optimizer=quiet_simplex) if np.ptp(column) else None
        )
        ends.append(column[0] if found is None else -found[1])
    return torch.tensor(ends, dtype=torch.float64).view(maxima.shape[1:])


def timed(function: Scores, run: int) -> tuple[float, np.ndarray]:
    begun = time.perf_counter()
    found = function(run)
    return time.perf_counter() - begun, found


def agreement(mine: np.ndarray, other: np.ndarray) -> dict[str, float]:
    mean = other.mean()
    gap = mine.mean() - mean
    # Images are fixed; only runs vary.
    error = np.sqrt((mine.mean(axis=1).var(ddof=1) + other.mean(axis=1).var(ddof=1)) / len(mine))
    return {
        "difference": round(float(gap / mean), 4),
        "of_medians": round(float((np.median(mine, 0) / np.median(other, 0)).mean() - 1.0), 4),
        "errors": round(float(gap / error), 2) if error else 0.0,
        "one_run": round(float((other.std(axis=0, ddof=1) / other.mean(axis=0)).mean()), 4),
        "our_run": round(float((mine.std(axis=0, ddof=1) / mine.mean(axis=0)).mean()), 4),
    }


def main() -> None:
    chosen = options()
    try:
        import_peer(
            "art", cure="set ROBUSTCL_ART to a folder that holds it", variable="ROBUSTCL_ART"
        )
    except AbsentError as error:
        print(f"skipped: {error}")
        return
    chosen.ball = chosen.ball or (0.5 if chosen.norm == "l2" else 0.02)
    module = network(chosen)
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(chosen.images, 3, 32, 32, generator=generator).to(chosen.device)
    model = Classifier.from_scores(module, image_shape=(3, 32, 32)).eval()
    sampling = Sampling(chosen.norm, chosen.ball, chosen.batches, chosen.samples, chosen.batch_size)
    mine = our_scores(sampling, model, images)
    other = art_scores(sampling, module, images, CLASSES)
    mine(99)
    other(99)
    pairs = [(timed(mine, run), timed(other, run)) for run in range(chosen.repeats)]
    with patch.object(CLEVER, "weibull_endpoint", fitted_by_art):
        same = np.array([mine(run) for run in range(chosen.repeats)])
    scores = [np.array([pair[side][1] for pair in pairs]) for side in (0, 1)]
    seconds = [[pair[side][0] for pair in pairs] for side in (0, 1)]
    ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True))
    result = {
        "times_faster": round(ratio, 2),
        "our_seconds": round(statistics.median(seconds[0]), 3),
        "art_seconds": round(statistics.median(seconds[1]), 3),
        "at_the_ball": float((scores[1] >= chosen.ball).mean()),
        "scores": agreement(*scores),
        "same_fit": agreement(same, scores[1]),
        **{key: value for key, value in vars(chosen).items() if key != "out"},
        **provenance(hidden=(str(chosen.out),)),
    }
    record(result, chosen.out)


if __name__ == "__main__":
    main()
