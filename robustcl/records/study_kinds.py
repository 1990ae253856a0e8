"""Declare what study.json holds: what a multi-view study found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta

from robustcl.core.errors import RunError
from robustcl.core.schema import parse

SINGLE = "single view"
Count = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class Interval:
    """Hold a mean with the ends of its interval."""

    value: float
    low: float
    high: float


NONE = Interval(0.0, 0.0, 0.0)  # where a field is absent; null is refused


@dataclass(frozen=True)
class Scores:
    """Hold how right and how calibrated a model is on some images."""

    accuracy: float
    nll: float
    brier: float
    smooth_ece: float
    debiased: float
    ece15: float
    ece15_floor95: float
    classwise: float
    aurc: float
    augrc: float
    risk80: float
    risk90: float
    risk95: float


@dataclass(frozen=True)
class Similarity:
    """Hold how calibrated the cosine similarity is, taken for a confidence."""

    smooth_ece: float
    ece15: float
    aurc: float
    augrc: float


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """Hold what was measured of a model; the last four of one that was attacked."""

    count: Count
    aggregate: str
    clean: Scores
    noisy: Scores
    attacked: Scores | None = None
    robust: float = 0.0
    robust_by_source: dict[str, float] | None = None
    similarity: Similarity | None = None
    certified: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Hold a model beside the single view; both gains where it was attacked."""

    accuracy: Interval
    corrections: Count
    corruptions: Count
    nll: Interval
    ece: Interval
    transfer_gain: Interval = NONE
    adaptive_gain: Interval = NONE


@dataclass(frozen=True)
class Curve:
    """Hold what is drawn: rows of four numbers."""

    reliability: tuple[tuple[float, float, float, float], ...]
    risk: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Brief:
    """Hold what a page says of an ensemble on clean images."""

    accuracy: float
    nll: float


@dataclass(frozen=True)
class Baseline:
    """Hold an ensemble that costs as much."""

    clean: Brief
    robust: float
    members: Count


@dataclass(frozen=True)
class Fresh:
    """Hold a model whose views are drawn anew at every call."""

    name: str
    draws: Count
    judges: Count
    clean: float
    robust: float
    robust_by_source: dict[str, float]
    adaptive_gain: Interval
    transfer_gain: Interval


@dataclass(frozen=True)
class ClassRow:
    """Count what views changed in a class."""

    images: Count
    corrected: Count
    corrupted: Count


@dataclass(frozen=True)
class StudyFile:
    """Hold all of it, by names of models."""

    models: dict[str, ModelEntry]
    comparisons: dict[str, Comparison]
    curves: dict[str, Curve]
    per_class: dict[str, tuple[ClassRow, ...]]
    baseline: Baseline | None
    fresh: Fresh | None = None


def check_study_file(content: Mapping[str, Any], *, what: str, cure: str) -> None:
    """Refuse a study.json whose fields are not as declared, or name models that it has not.

    Args:
        content: As JSON gives it.
        what: The file, for the message.
        cure: What the user can do.

    Raises:
        RunError: Naming the field.
    """
    found = parse(
        StudyFile,
        content,
        what=what,
        error=RunError,
        cure=cure,
        strange=True,
        any_number=("models", "comparisons", "curves", "baseline", "fresh"),
    )
    wrong = _contradiction(found, content)
    if wrong:
        raise RunError(f"{what} is not usable: {wrong}; {cure}")


def _contradiction(found: StudyFile, content: Mapping[str, Any]) -> str:
    names = {*found.comparisons, SINGLE}
    lacking = sorted(names - found.models.keys())
    if lacking:
        return f"field models has no {lacking[0][:60]!r}"
    attacked = [name for name, one in content["comparisons"].items() if "adaptive_gain" in one]
    if not attacked:
        return "field comparisons has no adaptive_gain"
    for name in [*attacked, SINGLE]:
        model = found.models[name]
        sources = model.robust_by_source or {}
        if model.attacked is None or not {SINGLE, name} <= sources.keys():
            return f"field models.{name[:60]} lacks what attacks made of it"
    if any("robust" in one and one.get("robust_by_source") is None
           for one in content["models"].values()):  # fmt: skip
        return "field models has a robust without robust_by_source"
    if found.fresh is not None and SINGLE not in found.fresh.robust_by_source:
        return f"field fresh.robust_by_source has no {SINGLE!r}"
    return ""
