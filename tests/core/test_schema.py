"""A dataclass is the schema of what a file says; whatever else it says is refused in one line."""

import datetime
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from robustcl.core.errors import RunError
from robustcl.core.schema import DEEPEST, objection_to_values, parse


@dataclass(frozen=True)
class Inner:
    x: float


@dataclass(frozen=True)
class Outer:
    eps: tuple[Annotated[float, Meta(ge=0.0)], ...]
    shape: tuple[int, int, int]
    norm: Literal["l2", "linf"] = "l2"
    parts: dict[str, Inner] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.shape[0] > self.shape[1]:
            raise ValueError(f"shape {self.shape} is upside down")


SOUND: dict[str, Any] = {"eps": [1, 0.5], "shape": [1, 2, 3]}


def parsed(content: object, **more: Any) -> Outer:
    return parse(Outer, content, what="'f.json'", error=RunError, cure="mend it", **more)


def nested(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = [found]
    return found


def cyclic() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def test_sound_values_become_the_dataclass() -> None:
    found = parsed({**SOUND, "parts": {"a": {"x": 1}}, "free": {"deep": nested(20)}})
    assert found == Outer((1.0, 0.5), (1, 2, 3), parts={"a": Inner(1.0)}, free=found.free)
    assert isinstance(found.eps[0], float)  # a whole number is a number
    assert parsed({**SOUND, "later": 1}, strange=True) == parsed(SOUND)
    endless = {**SOUND, "free": {"a": float("inf")}}
    assert parsed(endless, any_number=("free",)).free["a"] == float("inf")


REFUSED: list[tuple[object, str]] = [
    ({"eps": []}, "field shape is missing"),
    ({**SOUND, "eps": [1, 2, "3"]}, "field eps[2]: expected float, got str"),
    ({**SOUND, "eps": [True]}, "field eps[0]: expected float, got bool"),
    ({**SOUND, "eps": [-1]}, "field eps[0]: expected float >= 0.0"),
    ({**SOUND, "eps": 1}, "field eps: expected list, got int"),
    ({**SOUND, "eps": {"a": 1}}, "field eps: expected list, got table"),
    ({**SOUND, "eps": [float("nan")]}, "field eps[0] is nan, no finite number"),
    ({**SOUND, "eps": [10**400]}, "field eps[0] is a whole number of more than 64 bits"),
    ({**SOUND, "free": {"a": {"b": [float("inf")]}}}, "field free.a.b[0] is inf"),
    ({**SOUND, "free": {"a": datetime.date(2026, 1, 1)}}, "field free.a is a date"),
    ({**SOUND, "free": nested(DEEPEST + 2)}, f"field free has more than {DEEPEST} levels"),
    ({**SOUND, "free": cyclic()}, f"field free has more than {DEEPEST} levels"),
    ({**SOUND, "free": {1: 2}}, "a key of field free: expected str, got int"),
    ({**SOUND, "shape": [1, 2]}, "field shape: expected list of length 3, got 2"),
    ({**SOUND, "shape": [1.0, 2, 3]}, "field shape[0]: expected int, got float"),
    ({**SOUND, "shape": [3, 2, 1]}, "shape (3, 2, 1) is upside down"),
    ({**SOUND, "norm": "l\x1b[2J"}, "field norm: 'l\\x1b[2J' is none of 'l2', 'linf'"),
    ({**SOUND, "norm": None}, "field norm: expected str, got null"),
    ({**SOUND, "parts": {"a": {}}}, "field parts[...].x is missing"),
    ({**SOUND, "colour": 1}, "field 'colour' is not known; known are eps, shape"),
    ({**SOUND, "\n" * 10**6: 1}, "is not known"),
    ([], "expected table, got list"),
    ("text", "expected table, got str"),
    (None, "expected table, got null"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_is_refused_names_file_and_field_in_one_short_line(number: int) -> None:
    content, words = REFUSED[number]
    with pytest.raises(RunError) as error:
        parsed(content)
    said = str(error.value)
    assert said.startswith("'f.json' is not usable: ") and said.endswith("; mend it")
    assert words in said and said.isprintable() and len(said) < 500


def test_long_lists_are_looked_at_to_their_ends() -> None:
    rows: list[Any] = list(range(1000))
    assert objection_to_values({"rows": rows}) is None
    assert objection_to_values({"rows": [*rows, 2**64]}) == (
        "field rows[1000] is a whole number of more than 64 bits"
    )
    assert objection_to_values({"rows": [*rows, float("nan")]}, finite=False) is None
