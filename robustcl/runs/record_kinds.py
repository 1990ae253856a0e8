"""Declare the fields of every kind of record, and check records against them.

A field with a default may be absent, since older versions did not write it; one whose type is
joined with None may be null. Whole numbers are taken for decimal ones, truth values for nothing
else.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

CERTIFIED_BALL = "certified_ball"


@dataclass(frozen=True)
class AtLeast:
    """State the smallest value of a field."""

    low: float


Count = Annotated[int, AtLeast(0)]
Class = Annotated[int, AtLeast(-1)]  # -1: none
Length = Annotated[float, AtLeast(0.0)]
NormName = Literal["l2", "linf", "l1"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """Hold what every record says (see `robustcl.runs.records`)."""

    kind: str
    index: Count
    method: str
    config: str
    label: Class
    predicted: Class
    seconds: Length
    forwards: Count = 0
    session: Count = 0


@dataclass(frozen=True, kw_only=True)
class CleanRecord(Record):
    """Hold the prediction for an image; `predicted` is -1 where the model gives none."""

    kind: Literal["clean"] = "clean"
    margin: Length | None


@dataclass(frozen=True, kw_only=True)
class CertificateRecord(Record):
    """Hold a certificate about an image; `radius` is null where no class can ever overtake."""

    kind: Literal["certificate"] = "certificate"
    norm: NormName
    guarantee: Literal["deterministic", "probabilistic", "estimate"]
    subject: str
    radius: Length | None
    rival: Class
    by: str = ""


@dataclass(frozen=True, kw_only=True)
class AttackRecord(Record):
    """Hold what an attack on an image found; `radius` is null where it found nothing."""

    kind: Literal["attack"] = "attack"
    norm: NormName
    subject: str
    eps: list[float]
    radius: Length | None
    deployed: Length | None = None
    gradients: Count
    note: str = ""
    in_float64: bool = True
    failed: Length = 0.0
    stages: dict[str, int] | None = None
    stage_seconds: dict[str, float] | None = None
    decided: str | None = None
    reference_forwards: Count = 0
    reference_gradients: Count = 0
    ball: Length = 0.0
    ball_by: str = ""


KINDS: Mapping[str, type[Record]] = {
    "clean": CleanRecord,
    "certificate": CertificateRecord,
    "attack": AttackRecord,
}
Check = Callable[[Mapping[str, Any]], str]


def field_names(kind: str) -> tuple[str, ...]:
    """Name the fields of a kind, those of every kind first.

    Args:
        kind: 'clean', 'certificate' or 'attack'.

    Returns:
        Their names.
    """
    return tuple(entry.name for entry in fields(KINDS[kind]))


def record_check(kind: str) -> Check:
    """Make the check of a kind of record, which is quick for records that look like earlier ones.

    Args:
        kind: 'clean', 'certificate' or 'attack'.

    Returns:
        A function that says what is wrong with a record: a field that lacks or is too many, a type,
        a value that is out of range; '' where nothing is.
    """
    hints = get_type_hints(KINDS[kind], include_extras=True)
    kinds = {name: _types(hint) for name, hint in hints.items()}
    required = {f.name for f in fields(KINDS[kind]) if f.default is MISSING} | {"kind"}
    lows = [(name, low) for name, hint in hints.items() if (low := _low(hint)) is not None]
    choices = [(name, found) for name, hint in hints.items() if (found := _choices(hint))]
    shapes: set[tuple[tuple[str, ...], tuple[type, ...]]] = set()

    def check(record: Mapping[str, Any]) -> str:
        shape = (tuple(record), tuple(map(type, record.values())))
        if shape not in shapes:
            wrong = _shape(record, kinds, required)
            if wrong:
                return wrong
            shapes.add(shape)
        for name, low in lows:
            value = record.get(name)
            if value is not None and not value >= low:
                return f"its {name} is {value!r}, below {low:g}"
        for name, known in choices:
            if record[name] not in known:
                return f"its {name} is {record[name]!r}, none of {', '.join(known)}"
        return _meaning(record)

    return check


def _shape(
    record: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]], required: set[str]
) -> str:
    for name, value in record.items():
        if name not in kinds:
            return f"it has a field {name!r} that this version does not know"
        if type(value) not in kinds[name]:
            wanted = " or ".join("null" if t is NoneType else t.__name__ for t in kinds[name])
            return f"its {name} is {value!r}, not {wanted}"
    lacking = sorted(required - set(record))
    return f"it has no {lacking[0]!r}" if lacking else ""


def _meaning(record: Mapping[str, Any]) -> str:
    # What no single field says.
    kind = record["kind"]
    if kind == "clean":
        if record["method"] != "clean":
            return f"its method is {record['method']!r}, not 'clean'"
        if record["margin"] is None and record["predicted"] >= 0:
            return "its margin is null beside a prediction"
    elif kind == "certificate":
        if record["radius"] is None and (record["rival"] >= 0 or record["predicted"] < 0):
            return "its radius is null, though a class can overtake or it abstained"
    else:
        if not all(_number(value) for value in record["eps"]):
            return f"its eps are {record['eps']!r}, not numbers >= 0"
        for name in ("stages", "stage_seconds"):
            if not all(_number(value) for value in (record.get(name) or {}).values()):
                return f"its {name} are {record[name]!r}, not numbers >= 0"
    return ""


def _number(value: Any) -> bool:
    return type(value) in (int, float) and value >= 0


def _parts(hint: Any) -> list[Any]:
    return list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]


def _types(hint: Any) -> tuple[type, ...]:
    found: list[type] = []
    for part in _parts(hint):
        origin = get_origin(part)
        if origin is Annotated:
            found += _types(get_args(part)[0])
        elif origin is Literal:
            found += {type(value) for value in get_args(part)}
        else:
            found.append(origin or part)
    return tuple(dict.fromkeys((*found, int) if float in found else found))


def _low(hint: Any) -> float | None:
    for part in _parts(hint):
        if get_origin(part) is Annotated:
            return get_args(part)[1].low
    return None


def _choices(hint: Any) -> tuple[str, ...]:
    return get_args(hint) if get_origin(hint) is Literal else ()
