"""Name what a suite can measure, and read it off a run, a training log or a table."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from robustcl.core.errors import InputError
from robustcl.core.specification import choose, parse_number
from robustcl.records.summary import Summary
from robustcl.report.study_page import headline_model
from robustcl.workflows.outputs import accuracy_at

AT_A_RADIUS = ("certified_accuracy", "attacked_accuracy")
OF_A_RUN = (
    *("clean_accuracy", *AT_A_RADIUS, "median_certified_radius", "median_attacked_radius"),
    *("gradients", "audit_seconds"),
)
OF_TRAINING = ("knn_accuracy", "contradiction_share", "training_seconds", "images_per_second")
OF_CALIBRATION = ("nll", "brier", "calibration_error", "temperature")
OF_CORRUPTION = ("corrupted_accuracy", "corrupted_calibration_error")
# Of the first aggregate with the most views against the single view, by the name in study.json.
OF_A_STUDY = {
    "accuracy_gain": "accuracy",
    "transfer_gain": "transfer_gain",
    "adaptive_gain": "adaptive_gain",
    "nll_change": "nll",
    "calibration_error_change": "ece",
}
_METRICS = (*OF_A_RUN, *OF_TRAINING, *OF_CALIBRATION, *OF_CORRUPTION, *OF_A_STUDY)


def check_metric(text: str) -> tuple[str, float | None]:
    """Read a metric such as 'certified_accuracy@0.25'.

    Args:
        text: A name in `_METRICS`; certified_accuracy and attacked_accuracy may say a radius, and
            are otherwise read at the smallest eps of the norm.

    Returns:
        The name, and the radius or None.

    Raises:
        InputError: When the name is unknown, or one that takes no radius has one.
    """
    name, at, radius = str(text).partition("@")
    choose(name, _METRICS, what="metric")
    if at and name not in AT_A_RADIUS:
        raise InputError(f"{name} takes no radius, but {text!r} gives one; leave it out")
    return name, parse_number(radius) if at else None


def is_training_metric(text: str) -> bool:
    """Tell whether a metric is read off a training run.

    Args:
        text: The metric.

    Returns:
        Whether it is.
    """
    return check_metric(text)[0] in OF_TRAINING


def wants_audit(metrics: tuple[str, ...]) -> bool:
    """Tell whether metrics need a run folder.

    Args:
        metrics: The metrics of a suite.

    Returns:
        Whether one does.
    """
    return any(check_metric(text)[0] in OF_A_RUN for text in metrics)


def wants_calibration(metrics: tuple[str, ...]) -> bool:
    """Tell whether metrics need a calibration table.

    Args:
        metrics: The metrics of a suite.

    Returns:
        Whether one does.
    """
    return any(check_metric(text)[0] in (*OF_CALIBRATION, *OF_CORRUPTION) for text in metrics)


def wants_study(metrics: tuple[str, ...]) -> bool:
    """Tell whether metrics need a study of multi-view inference.

    Args:
        metrics: The metrics of a suite.

    Returns:
        Whether one does.
    """
    return any(check_metric(text)[0] in OF_A_STUDY for text in metrics)


def study_metrics(metrics: tuple[str, ...], study: Mapping[str, Any]) -> dict[str, float | None]:
    """Read metrics off a study.

    Args:
        metrics: The metrics of a suite.
        study: The content of study.json.

    Returns:
        Those that are about it.
    """
    compared = study["comparisons"][headline_model(study)]
    return {text: compared[OF_A_STUDY[text]]["value"] for text in metrics if text in OF_A_STUDY}


def run_metrics(metrics: tuple[str, ...], summary: Summary) -> dict[str, float | None]:
    """Read metrics off the summary of a run.

    Args:
        metrics: The metrics of a suite.
        summary: Of a run.

    Returns:
        Those that are about a run, None where the run has nothing to say.
    """
    parts = (*summary.by_method.values(), *summary.by_attack.values())
    whole: dict[str, float | None] = {
        "clean_accuracy": summary.clean_accuracy,
        "certified_accuracy": summary.headline_certified,
        "attacked_accuracy": summary.headline_attacked,
        "median_certified_radius": summary.median_certified_radius,
        "median_attacked_radius": summary.median_attacked_radius,
        "gradients": float(sum(part.get("gradients", 0) for part in parts)),
        "audit_seconds": summary.seconds,
    }
    found: dict[str, float | None] = {}
    for text in metrics:
        name, radius = check_metric(text)
        if radius is not None:
            found[text] = _at(name, getattr(summary, name), radius)
        elif name in whole:
            found[text] = whole[name]
    return {key: None if v is None or not math.isfinite(v) else v for key, v in found.items()}


def _at(name: str, curve: Sequence[Sequence[float]], radius: float) -> float | None:
    # Beyond its end a certified curve is 0, but nothing is known of an attacked one.
    if not curve or (name == "attacked_accuracy" and radius > curve[-1][0] * (1 + 1e-9)):
        return None
    return accuracy_at(curve, radius)


def training_metrics(metrics: tuple[str, ...], log: Mapping[str, Any]) -> dict[str, float | None]:
    """Read metrics off the last row of a training log.

    Args:
        metrics: The metrics of a suite.
        log: The row, with `training_seconds` and `images_per_second`.

    Returns:
        Those that are about training, None where the log has none.
    """
    named = [text for text in metrics if is_training_metric(text)]
    return {text: None if log.get(text) is None else float(log[text]) for text in named}
