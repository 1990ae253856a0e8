"""Check what a file says against the dataclass that it is read into."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from robustcl.core.printable import printable
from robustcl.errors import RobustclError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Shape = TypeVar("Shape", bound="DataclassInstance")
DEEPEST = 100  # levels of tables within tables that a file may have


def parse(
    kind: type[Shape],
    content: object,
    *,
    what: str,
    error: type[RobustclError],
    cure: str,
    strange: bool = False,
) -> Shape:
    """Build a dataclass from plain values, or refuse them in one line.

    Types are strict: a number in a text is no number, and true is no whole number. Bounds are
    stated with the field, as in `Annotated[int, msgspec.Meta(ge=1)]`. Numbers that are not finite
    are refused at any depth: no format of ours holds one.

    Args:
        kind: A frozen dataclass, whose fields are the schema.
        content: As JSON or TOML gives it.
        what: The file, as the message names it, as in "'run/manifest.json'".
        error: The exception that is raised.
        cure: What the user can do.
        strange: Whether fields that `kind` does not have are left aside; refused by default.

    Returns:
        The instance.

    Raises:
        RobustclError: Of type `error`, naming file and field, when the content does not fit.
    """
    found = objection_to_values(content)
    if found is None and not strange and isinstance(content, Mapping):
        known = [entry.name for entry in fields(kind)]
        unknown = [str(key) for key in content if key not in known]
        if unknown:
            found = f"field {unknown[0]!r} is not known"
    if found is None:
        try:
            return msgspec.convert(content, kind)
        except msgspec.ValidationError as wrong:
            found = _spelled(str(wrong))
        except (RobustclError, ValueError, TypeError) as wrong:  # a dataclass's own checks
            found = str(wrong)
    raise error(f"{what} is not usable: {printable(found)}; {cure}")


def objection_to_values(content: object, *, where: str = "", depth: int = 0) -> str | None:
    """Say what in plain values no format of ours can hold: NaN, infinity, too many levels.

    Args:
        content: As JSON or TOML gives it.
        where: The field so far.
        depth: Levels above it.

    Returns:
        What is wrong; None where nothing is.
    """
    if isinstance(content, float) and not math.isfinite(content):
        return f"field {where or 'itself'} is {content}, no finite number"
    if depth > DEEPEST:
        return f"field {where.split('.')[0] or 'itself'} has more than {DEEPEST} levels"
    parts: Sequence[tuple[Any, object]] = ()
    if isinstance(content, Mapping):
        parts = list(content.items())
    elif isinstance(content, list | tuple):
        parts = list(enumerate(content))
    for key, value in parts:
        if isinstance(value, str | int | None):
            continue
        inner = f"{where}.{key}" if where else str(key)
        found = objection_to_values(value, where=inner, depth=depth + 1)
        if found is not None:
            return found
    return None


def _spelled(message: str) -> str:
    # "Expected `int`, got `str` - at `$.eps[2]`" becomes "field eps[2]: expected int, got str".
    text, _, place = message.partition(" - at ")
    field = place.strip("`").removeprefix("$").removeprefix(".")
    text = text.replace("`", "")
    return f"field {field}: {text[:1].lower()}{text[1:]}" if field else text
