"""Declare what study.json holds: what a multi-view study found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta

from robustcl.core.errors import RunError
from robustcl.core.schema import parse

_SINGLE = "single view"
_Count = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class _Interval:
    """Hold a mean with the ends of its interval."""

    value: float
    low: float
    high: float


_NONE = _Interval(0.0, 0.0, 0.0)  # where a field is absent; null is refused


@dataclass(frozen=True)
class _Scores:
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
class _ModelEntry:
    """Hold what was measured of a model; the last four of one that was attacked."""

    count: _Count
    aggregate: str
    clean: _Scores
    noisy: _Scores
    attacked: _Scores | None = None
    robust: float = 0.0
    robust_by_source: dict[str, float] | None = None
    similarity: Similarity | None = None
    certified: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    """Hold a model beside the single view; both gains where it was attacked."""

    accuracy: _Interval
    corrections: _Count
    corruptions: _Count
    nll: _Interval
    ece: _Interval
    transfer_gain: _Interval = _NONE
    adaptive_gain: _Interval = _NONE


@dataclass(frozen=True)
class _Curve:
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
    members: _Count


@dataclass(frozen=True)
class Fresh:
    """Hold a model whose views are drawn anew at every call."""

    name: str
    draws: _Count
    judges: _Count
    clean: float
    robust: float
    robust_by_source: dict[str, float]
    adaptive_gain: _Interval
    transfer_gain: _Interval


@dataclass(frozen=True)
class ClassRow:
    """Count what views changed in a class."""

    images: _Count
    corrected: _Count
    corrupted: _Count


@dataclass(frozen=True)
class StudyFile:
    """Hold all of it, by names of models."""

    models: dict[str, _ModelEntry]
    comparisons: dict[str, _Comparison]
    curves: dict[str, _Curve]
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
    names = {*found.comparisons, _SINGLE}
    lacking = sorted(names - found.models.keys())
    if lacking:
        return f"field models has no {lacking[0][:60]!r}"
    attacked = [name for name, one in content["comparisons"].items() if "adaptive_gain" in one]
    if not attacked:
        return "field comparisons has no adaptive_gain"
    for name in [*attacked, _SINGLE]:
        model = found.models[name]
        sources = model.robust_by_source or {}
        if model.attacked is None or not {_SINGLE, name} <= sources.keys():
            return f"field models.{name[:60]} lacks what attacks made of it"
    if any("robust" in one and one.get("robust_by_source") is None
           for one in content["models"].values()):  # fmt: skip
        return "field models has a robust without robust_by_source"
    if found.fresh is not None and _SINGLE not in found.fresh.robust_by_source:
        return f"field fresh.robust_by_source has no {_SINGLE!r}"
    return ""
