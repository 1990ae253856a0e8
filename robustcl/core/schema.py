"""Check what a file says against the dataclass that it is read into."""

import math
from collections.abc import Collection, Mapping
from dataclasses import fields
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from robustcl.core.errors import RobustclError
from robustcl.core.terminal import printable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Shape = TypeVar("_Shape", bound="DataclassInstance")
DEEPEST = 100  # levels of tables within tables that a file may have
WIDEST = 64  # bits of a whole number
_FAR = 2**63
LONGEST_TEXT = 300  # letters of what is wrong
_WORDS = {"object": "table", "array": "list"}  # msgspec's words for what JSON and TOML both have


def parse(
    kind: type[_Shape],
    content: object,
    *,
    what: str,
    error: type[RobustclError],
    cure: str,
    strange: bool = False,
    any_number: Collection[str] = (),
) -> _Shape:
    """Build a dataclass from plain values, or refuse them in one line.

    Types are strict: a number in a text is no number, and true is no whole number. Bounds are
    stated with the field, as in `Annotated[int, msgspec.Meta(ge=1)]`. Numbers that are not finite,
    and whole numbers beyond 64 bits, are refused at any depth.

    Args:
        kind: A frozen dataclass, whose fields are the schema.
        content: As JSON or TOML gives it.
        what: The file, as the message names it, as in "'run/manifest.json'".
        error: The exception that is raised.
        cure: What the user can do.
        strange: Whether fields that `kind` does not have are left aside; refused by default.
        any_number: Fields of `kind` in which numbers need not be finite.

    Returns:
        The instance.

    Raises:
        RobustclError: Of type `error`, naming file and field, when the content does not fit.
    """
    found, content = "", dict(content) if isinstance(content, Mapping) else content
    if isinstance(content, dict):
        known = tuple(entry.name for entry in fields(kind))
        if strange:
            content = {name: value for name, value in content.items() if name in known}
        unknown = next((name for name in content if name not in known), None)
        if unknown is not None:
            found = f"field {str(unknown)[:60]!r} is not known; known are {', '.join(known)}"
        for name, value in content.items():
            finite = name not in any_number
            found = found or objection_to_values(value, where=str(name), finite=finite) or ""
    if not found:
        try:
            return msgspec.convert(content, kind)
        except msgspec.ValidationError as wrong:
            found = _spelled(str(wrong), kind, content)
        except (RobustclError, ValueError, TypeError) as wrong:  # a dataclass's own checks
            found = str(wrong)
    raise error(f"{what} is not usable: {_line(found)}; {cure}")


def objection_to(kind: Any, value: object) -> str:
    """Say why a plain value is not of a kind.

    Args:
        kind: A type, as the field of a dataclass has it.
        value: As JSON or TOML gives it.

    Returns:
        What is wrong, with the field where there is one; '' where nothing is.
    """
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as wrong:
        return _line(_spelled(str(wrong), kind, value))
    return ""


def objection_to_values(
    content: object, *, where: str = "", depth: int = 1, finite: bool = True
) -> str | None:
    """Say what in plain values no format of ours can hold.

    That is NaN, infinity, a whole number beyond 64 bits, a date, or too many levels.

    Args:
        content: As JSON or TOML gives it.
        where: The field so far.
        depth: Levels above it.
        finite: Whether numbers must be finite.

    Returns:
        What is wrong; None where nothing is.
    """
    if content is None or isinstance(content, str | bool):
        return None
    if isinstance(content, int):
        large = content.bit_length() > WIDEST
        return f"field {where} is a whole number of more than {WIDEST} bits" if large else None
    if isinstance(content, float):
        fine = math.isfinite(content) or not finite
        return None if fine else f"field {where} is {content}, no finite number"
    if depth > DEEPEST:
        return f"field {where.partition('.')[0].partition('[')[0]} has more than {DEEPEST} levels"
    if not isinstance(content, Mapping | list | tuple):
        return f"field {where} is a {type(content).__name__}"
    parts = content.items() if isinstance(content, Mapping) else enumerate(content)
    for key, value in parts:
        if type(value) is str or (type(value) is int and -_FAR < value < _FAR):
            continue  # most of what long lists hold
        inner = f"{where}[{key}]" if not isinstance(content, Mapping) else f"{where}.{key}"
        inner = inner.removeprefix(".")
        found = objection_to_values(value, where=inner, depth=depth + 1, finite=finite)
        if found is not None:
            return found
    return None


def _spelled(message: str, kind: Any, content: object) -> str:
    # "Expected `int`, got `str` - at `$.eps[2]`" becomes "field eps[2]: expected int, got str".
    text, _, place = message.partition(" - at ")
    inner = place.startswith("`key` in ")
    field = place.removeprefix("`key` in ").strip("`").removeprefix("$").removeprefix(".")
    for word, ours in _WORDS.items():
        text = text.replace(f"`{word}`", ours)
    text = text.replace("`", "")
    text = f"{text[:1].lower()}{text[1:]}"
    if text.startswith("object missing required field"):
        name = text.removeprefix("object missing required field ")
        return f"field {field}.{name} is missing" if field else f"field {name} is missing"
    if text.startswith("invalid enum value") and field.isidentifier():
        known = _choices(kind).get(field, ())
        value = content.get(field) if isinstance(content, Mapping) else None
        text = f"{value!r} is none of {', '.join(map(repr, known))}" if known else text
    return f"{'a key of ' if inner else ''}field {field}: {text}" if field else text


@cache
def _choices(kind: Any) -> Mapping[str, tuple[Any, ...]]:
    found = {}
    for name, hint in get_type_hints(kind).items():
        parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        options = [
            value for part in parts if get_origin(part) is Literal for value in get_args(part)
        ]
        found[name] = tuple(options)
    return found


def _line(text: str) -> str:
    plain = printable(text[:LONGEST_TEXT])
    return f"{plain}..." if len(text) > LONGEST_TEXT else plain
