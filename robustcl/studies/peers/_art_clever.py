"""Set CLEVER beside that of the Adversarial Robustness Toolbox (ART)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from robustcl.certify import clever
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier
from robustcl.studies.peers.comparison import (
    Comparison,
    ComparisonInputs,
    compare_programs,
    import_peer,
    named,
)

ART_VARIABLE = "ROBUSTCL_ART"
ART_CURE = (
    "pip install --target FOLDER --no-deps adversarial-robustness-toolbox six, and name FOLDER in "
    f"{ART_VARIABLE}"
)
BALLS: dict[CertifiedNorm, float] = {"l2": 0.5, "linf": 0.02}
_IMAGES = 4
RUNS = 3  # of which the scores are compared: both are random
_GAP = 0.15  # between the means, relative
Scores = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Sampling:
    """Say what both sides sample.

    Args:
        norm: 'l2' or 'linf'.
        ball: Radius of the ball.
        batches: Batches, of each of which the largest slope counts.
        samples: Points per batch.
        batch_size: Points per pass, of ours.
    """

    norm: CertifiedNorm = "l2"
    ball: float = BALLS["l2"]
    batches: int = 50
    samples: int = 32
    batch_size: int = 40


def art_clever(inputs: ComparisonInputs) -> list[Comparison]:
    """Compare the mean score over images and runs, then time.

    Args:
        inputs: Model and images.

    Returns:
        One comparison, in L2.
    """
    import_peer("art.metrics", cure=ART_CURE, variable=ART_VARIABLE)
    sampling = Sampling()
    images = inputs.test.batch(range(min(_IMAGES, len(inputs.test)))).images.to(inputs.device)
    mine, other = (
        our_scores(sampling, inputs.model, images),
        art_scores(sampling, inputs.model, images, inputs.model.num_classes),
    )
    numbers = iter(range(10**6))

    def one(scores: Scores) -> Callable[[], np.ndarray]:
        return lambda: scores(next(numbers))

    def agreement(ours: np.ndarray, theirs: np.ndarray) -> tuple[bool, str]:
        first = np.mean([ours, *(mine(1000 + run) for run in range(RUNS - 1))])
        second = np.mean([theirs, *(other(1000 + run) for run in range(RUNS - 1))])
        gap = float(first / second - 1.0)
        return abs(
            gap
        ) <= _GAP, f"mean score {first:.4g} and {second:.4g} ({gap:+.1%}), {RUNS} runs"

    task = f"CLEVER, l2 ball {sampling.ball}, {sampling.batches} x {sampling.samples} points, "
    return [
        compare_programs(
            inputs,
            f"{task}{len(images)} images",
            named("adversarial-robustness-toolbox"),
            ours=one(mine),
            theirs=one(other),
            agreement=agreement,
        )
    ]


def our_scores(sampling: Sampling, model: Classifier, images: Tensor) -> Scores:
    """Score by ours, all other classes.

    Args:
        sampling: What is sampled.
        model: The network.
        images: The images.

    Returns:
        A function of the number of the run, which seeds it.
    """

    def scores(run: int) -> np.ndarray:
        claim = clever(
            model,
            images,
            norm=sampling.norm,
            ball=sampling.ball,
            batches=sampling.batches,
            samples=sampling.samples,
            batch_size=sampling.batch_size,
            seeds=[1000 * run + row for row in range(len(images))],
        )
        return claim.radius.cpu().numpy()

    return scores


def art_scores(sampling: Sampling, module: nn.Module, images: Tensor, classes: int) -> Scores:
    """Score by ART's `clever_u`, all other classes.

    Args:
        sampling: What is sampled.
        module: The network.
        images: The images.
        classes: Number of classes.

    Returns:
        A function of the number of the run, which seeds it.
    """
    from art.estimators.classification import PyTorchClassifier  # pyright: ignore
    from art.metrics import clever_u  # pyright: ignore

    kind = "gpu" if images.is_cuda else "cpu"
    loss = nn.CrossEntropyLoss()
    wrapped: Any = PyTorchClassifier(
        module, loss, tuple(images.shape[1:]), classes, device_type=kind
    )
    order = 2 if sampling.norm == "l2" else np.inf
    pixels = images.cpu().numpy()
    numbers = (sampling.batches, sampling.samples, sampling.ball, order)

    def scores(run: int) -> np.ndarray:
        np.random.seed(run)  # noqa: NPY002 ART uses the global generator
        return np.array([clever_u(wrapped, image, *numbers, verbose=False) for image in pixels])

    return scores
