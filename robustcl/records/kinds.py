"""Declare the fields of every kind of record, and check records against them.

A field with a default may be absent, since older versions did not write it; one whose type is
joined with None may be null. Whole numbers are taken for decimal ones, truth values for nothing
else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from msgspec import Meta

from robustcl.core.schema import objection_to

CERTIFIED_BALL = "certified_ball"
_SHOWN = 60  # signs of a value in a message


_Count = Annotated[int, Meta(ge=0)]
Class = Annotated[int, Meta(ge=-1)]  # -1: none
_Length = Annotated[float, Meta(ge=0.0)]
NormName = Literal["l2", "linf", "l1"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """Hold what every record says (see `robustcl.records.reading`)."""

    kind: str
    index: _Count
    method: str
    config: str
    label: Class
    predicted: Class
    seconds: _Length
    forwards: _Count = 0
    session: _Count = 0


@dataclass(frozen=True, kw_only=True)
class CleanRecord(Record):
    """Hold the prediction for an image; `predicted` is -1 where the model gives none."""

    kind: Literal["clean"] = "clean"
    margin: _Length | None


@dataclass(frozen=True, kw_only=True)
class CertificateRecord(Record):
    """Hold a certificate about an image; `radius` is null where no class can ever overtake."""

    kind: Literal["certificate"] = "certificate"
    norm: NormName
    guarantee: Literal["deterministic", "probabilistic", "estimate"]
    subject: str
    radius: _Length | None
    rival: Class
    by: str = ""


@dataclass(frozen=True, kw_only=True)
class AttackRecord(Record):
    """Hold what an attack on an image found; `radius` is null where it found nothing."""

    kind: Literal["attack"] = "attack"
    norm: NormName
    subject: str
    eps: list[_Length]
    radius: _Length | None
    deployed: _Length | None = None
    gradients: _Count
    note: str = ""
    in_float64: bool = True
    failed: _Length = 0.0
    stages: dict[str, _Length] | None = None
    stage_seconds: dict[str, _Length] | None = None
    decided: str | None = None
    reference_forwards: _Count = 0
    reference_gradients: _Count = 0
    ball: _Length = 0.0
    ball_by: str = ""


KINDS: Mapping[str, type[Record]] = {
    "clean": CleanRecord,
    "certificate": CertificateRecord,
    "attack": AttackRecord,
}
_Check = Callable[[Mapping[str, Any]], str]


def field_names(kind: str) -> tuple[str, ...]:
    """Name the fields of a kind, those of every kind first.

    Args:
        kind: 'clean', 'certificate' or 'attack'.

    Returns:
        Their names.
    """
    return tuple(entry.name for entry in fields(KINDS[kind]))


def record_check(kind: str) -> _Check:
    """Make the check of a kind of record.

    Args:
        kind: 'clean', 'certificate' or 'attack'.

    Returns:
        A function that says what is wrong with a record: a field that lacks or is too many, a type,
        a value that is out of range; '' where nothing is.
    """
    declared, known = KINDS[kind], frozenset(field_names(kind))

    def check(record: Mapping[str, Any]) -> str:
        if not known >= record.keys():
            strange = next(name for name in record if name not in known)
            return f"it has a field {strange[:_SHOWN]!r} that this version does not know"
        wrong = objection_to(declared, record)
        return _about(wrong, record) if wrong else _meaning(record)

    return check


def _about(wrong: str, record: Mapping[str, Any]) -> str:
    # "field index: expected int, got str" becomes "its index is '3': expected int, got str".
    name, _, rest = wrong.removeprefix("field ").partition(": ")
    if name.endswith(" is missing"):
        return f"it has no {name.removesuffix(' is missing')!r}"
    top = name.partition("[")[0].partition(".")[0]
    text = repr(record.get(top))
    return f"its {top} is {text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...'}: {rest or wrong}"


def _meaning(record: Mapping[str, Any]) -> str:
    # What no single field says.
    kind = record["kind"]
    if kind == "clean":
        if record["method"] != "clean":
            return f"its method is {record['method']!r}, not 'clean'"
        if record["margin"] is None and record["predicted"] >= 0:
            return "its margin is null beside a prediction"
    elif (
        kind == "certificate"
        and record["radius"] is None
        and (record["rival"] >= 0 or record["predicted"] < 0)
    ):
        return "its radius is null, though a class can overtake or it abstained"
    return ""
