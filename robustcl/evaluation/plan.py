"""Predict from a short measurement how long an audit takes."""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false

from __future__ import annotations

import inspect
import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from robustcl import certify
from robustcl.core.classifier import Classifier
from robustcl.core.lazy import lazily
from robustcl.core.modules import eval_mode
from robustcl.data.dataset import Dataset
from robustcl.evaluation.config import EvaluationConfig
from robustcl.evaluation.measuring import evaluate
from robustcl.records.reading import read_lines

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazily("pandas")

FEW, MORE = 100, 500  # samples at which methods that sample are measured
_SHARE = 0.05  # of the images, that are measured at most


@dataclass(frozen=True)
class PlannedCost:
    """Say what a measure costs.

    Args:
        method: As records name it.
        seconds: Per image.
        error: Half the 95 % interval of `seconds`, from the spread between batches; infinite where
            there was one batch only.
        samples: Noisy samples per image; None where the method takes none.
    """

    method: str
    seconds: float
    error: float
    samples: int | None = None


@dataclass(frozen=True)
class Plan:
    """Predict an audit.

    Args:
        costs: Of every measure.
        images: Images in all.
        measured: Images that were measured.
        processes: Processes that share them.
    """

    costs: tuple[PlannedCost, ...]
    images: int
    measured: int
    processes: int

    @property
    def seconds(self) -> float:
        """Wall-clock time, were each process as fast as this one."""
        return sum(cost.seconds for cost in self.costs) * self.images / self.processes


def plan(
    classifier: Classifier,
    dataset: Dataset,
    audit: EvaluationConfig,
    *,
    device: str | torch.device = "cpu",
    processes: int = 1,
    batches: int = 2,
) -> Plan:
    """Measure a few batches, spread over the data, and predict the time of all.

    Methods that sample are measured at 100 and at 500 samples per image; their time is linear in
    the number of samples beyond. A first call is not timed. Starting the program and writing the
    report are not in it.

    Args:
        classifier: The model.
        dataset: The images.
        audit: What would be measured.
        device: Where to compute.
        processes: Processes that would share the images, each with resources like this one's.
        batches: Batches to measure; smaller ones where all would be more than 5 % of the images.

    Returns:
        The prediction.
    """
    most = max(batches, int(_SHARE * len(dataset)))
    count = min(batches * audit.batch_size, most, len(dataset))
    audit = replace(audit, batch_size=max(1, math.ceil(count / batches)))
    rows = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int))
    sample = dataset.select(rows)
    with torch.no_grad(), eval_mode(classifier.to(device)):  # first calls are slow
        classifier(sample.batch(range(min(2, len(sample)))).images.to(device))
    few = replace(audit, methods=tuple(_sampling(text, FEW) for text in audit.methods))
    times = _measured(classifier, sample, few, device)
    heavy = [text for text in audit.methods if (_samples(text) or 0) > MORE]
    more: dict[str, np.ndarray] = {}
    if heavy:
        only = replace(few, methods=tuple(_sampling(text, MORE) for text in heavy), attacks=())
        more = _measured(classifier, sample, replace(only, test_certificates=False), device)
    costs = []
    for kind, text in audit.measures:
        samples = _samples(text) if kind == "certificate" else None
        seconds = times[_sampling(text, FEW) if kind == "certificate" else text]
        if samples and samples > MORE:
            later = more[_sampling(text, MORE)]
            seconds = later + _per_sample(seconds, later) * (samples - MORE)
        spread = seconds.std(ddof=1) if len(seconds) > 1 else math.inf
        error = 1.96 * float(spread) / math.sqrt(len(seconds))
        costs.append(PlannedCost(text, float(seconds.mean()), error, samples))
    return Plan(tuple(costs), len(dataset), len(rows), processes)


def _per_sample(few: np.ndarray, more: np.ndarray) -> float:
    # On a busy machine the difference drowns in noise. No sample can cost more than what 500 took,
    # in proportion, and where nothing is left of the difference that is the guess.
    most = float(more.mean()) / MORE
    slope = float((more - few).mean()) / (MORE - FEW)
    return min(slope, most) if slope > 0 else most


def _measured(
    classifier: Classifier, sample: Dataset, audit: EvaluationConfig, device: str | torch.device
) -> dict[str, np.ndarray]:
    # By method, seconds per image of each batch.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "plan"
        evaluate(classifier, sample, audit, folder, device=device, progress=False)
        lines = pd.DataFrame(
            [(line["method"], line["index"], line["seconds"]) for line in read_lines(folder)],
            columns=["method", "index", "seconds"],
        )
    lines["batch"] = lines["index"] // min(audit.batch_size, len(sample))
    means = lines.groupby(["method", "batch"])["seconds"].mean()
    return {
        str(method): means.loc[method].to_numpy(dtype=float) for method in lines["method"].unique()
    }


def _samples(text: str) -> int | None:
    parsed = certify.parse_method(text)
    known = inspect.signature(certify.METHODS[parsed.name].function).parameters
    if "n" not in known:
        return None
    chosen = parsed.options.get("n", known["n"].default)
    return int(chosen) if isinstance(chosen, int | float) else None


def _sampling(text: str, samples: int) -> str:
    # The method with so many samples, where it takes any and more than that.
    wanted = _samples(text)
    if wanted is None or wanted <= MORE:
        return text
    parsed = certify.parse_method(text)
    options = {**parsed.options, "n": samples}
    values = ((key, str(v).lower() if isinstance(v, bool) else v) for key, v in options.items())
    return f"{parsed.name}:{','.join(f'{key}={value}' for key, value in values)}"
