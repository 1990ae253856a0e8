"""Measure how far confidence comes true, on clean and on corrupted images."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustcl.calibration import (
    brier,
    calibration_error,
    fit_temperature,
    negative_log_likelihood,
    top_label,
)
from robustcl.core.abstention import answered, predict
from robustcl.core.batching import fixed_size
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode
from robustcl.core.terminal import say
from robustcl.data.class_names import match_classes
from robustcl.data.corruptions import cifar10c, cifar10c_names, corrupted
from robustcl.data.dataset import Dataset
from robustcl.data.splits import stratified_split
from robustcl.models.heads import KNNHead
from robustcl.records.summary import interval95
from robustcl.studies.cell_kinds.model_cell import load_model
from robustcl.studies.grid import Cell
from robustcl.studies.place import Place, read_split
from robustcl.studies.suite import Suite

_CLEAN = "none"


def calibration_cell(suite: Suite, cell: Cell, place: Place) -> dict[str, Any]:
    """Fit a temperature on one half of the test images and measure on the other.

    The half that the temperature is fitted on is measured nowhere. Scores of kNN are shares of
    votes, which need no temperature.

    Args:
        suite: The suite.
        cell: The table.
        place: Where the suite is run.

    Returns:
        Entries of the cell's state: a row for clean images, and one per corruption and severity.

    Raises:
        InputError: When the model abstains on all images of the first half.
    """
    arch = cell.model.training.get("arch")
    model, _ = load_model(cell.model.checkpoint, arch, place.folder / cell.needs)
    clean = read_split(suite, place, cell.data, split="test", seed=cell.seed)

    def version(name: str, severity: int) -> Dataset:
        # Matched after it was corrupted: a folder of CIFAR-10-C has the labels of the source.
        found = _version(clean, name, severity, suite, cell.seed)
        return match_classes(found, model.class_names, matching=suite.classes)

    plain = version(_CLEAN, 0)
    for note in plain.notes[len(clean.notes) :]:
        say(f"note: {note}")
    fitted, held = stratified_split(plain.labels, test_share=0.5, seed=cell.seed)
    if not len(held):
        raise InputError(
            f"{len(plain)} test images are too few: half of each class fits the temperature, "
            "the other is measured; raise limit"
        )
    model.to(place.device)
    temperature = None
    if not isinstance(model.head, KNNHead):
        part = plain.select(fitted)
        scores = _scores(model, part, suite.batch_size, place.device)
        known = answered(scores)
        if not bool(known.any()):
            raise InputError(
                f"{cell.model.name} abstains on all {len(part)} images; train it again"
            )
        temperature = fit_temperature(scores[known], torch.from_numpy(part.labels)[known])
    rows = []
    for name, severity in ((_CLEAN, 0), *_wanted(suite)):
        part = version(name, severity).select(held)
        scores = _scores(model, part, suite.batch_size, place.device)
        row = measured(scores, torch.from_numpy(part.labels), temperature)
        rows.append({"corruption": name, "severity": severity, **row})
    return {"rows": rows, "metrics": _metrics(suite, rows)}


def measured(scores: Tensor, labels: Tensor, temperature: float | None) -> dict[str, Any]:
    """Measure accuracy and calibration.

    Args:
        scores: (N, K).
        labels: (N,).
        temperature: T of softmax(scores / T); None where scores are shares.

    Returns:
        n, accuracy with its exact 95 % interval, abstained (images without finite scores, if any:
        they are wrong, and the other numbers leave them out), nll (nats), brier (sum over classes),
        calibration_error (15 bins of equal count) and temperature.
    """
    right, known = int((predict(scores) == labels).sum()), answered(scores)
    n, lost = len(labels), int((~known).sum())
    scores, labels = scores[known].double(), labels[known]
    shares = scores if temperature is None else torch.softmax(scores / temperature, dim=1)
    return {
        "n": n,
        "accuracy": right / n,
        "interval95": list(interval95(right, n)),
        **({"abstained": lost} if lost else {}),
        "nll": negative_log_likelihood(shares, labels) if len(labels) else None,
        "brier": brier(shares, labels).score if len(labels) else None,
        "calibration_error": calibration_error(*top_label(shares, labels)) if len(labels) else None,
        "temperature": temperature,
    }


def _wanted(suite: Suite) -> list[tuple[str, int]]:
    names = suite.corruptions
    if suite.corrupted_folder:
        names = cifar10c_names(Path(suite.corrupted_folder))
    return [(name, severity) for name in names for severity in suite.severities]


def _version(clean: Dataset, name: str, severity: int, suite: Suite, seed: int) -> Dataset:
    if name == _CLEAN:
        return clean
    if suite.corrupted_folder:
        return cifar10c(Path(suite.corrupted_folder), name, severity, clean)
    return corrupted(clean, name, severity, seed=seed)


def _scores(model: Classifier, dataset: Dataset, batch_size: int, device: str) -> Tensor:
    parts = []
    with torch.no_grad(), eval_mode(model):
        for batch in dataset.batches(batch_size):
            parts.append(fixed_size(model, batch.images.to(device), batch_size=batch_size).cpu())
    return torch.cat(parts)


def _metrics(suite: Suite, rows: list[dict[str, Any]]) -> dict[str, float | None]:
    first, others = rows[0], rows[1:]
    found: dict[str, float | None] = {
        name: first[name] for name in ("nll", "brier", "calibration_error", "temperature")
    }
    for name in ("accuracy", "calibration_error"):
        known = [row[name] for row in others if row[name] is not None]
        found[f"corrupted_{name}"] = sum(known) / len(known) if known else None
    return {text: found[text] for text in suite.metrics if text in found}
