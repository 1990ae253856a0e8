"""Read a method and its options from text such as 'smoothing:sigma=.25,n=10000'."""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, get_args

from robustcl.core.errors import InputError

_Value = int | float | str | bool
_LONGEST = 10_000  # letters of a text
_LARGEST = 2**63 - 1
_FRACTION = re.compile(r"([+-]?\d+(?:\.\d*)?)/(\d+(?:\.\d*)?)")


@dataclass(frozen=True)
class Specification:
    """Hold a name and its options.

    Args:
        name: What stands before the colon.
        options: What follows it.
        text: The text as it was given, by which records name the method.
    """

    name: str
    options: dict[str, _Value] = field(default_factory=dict)
    text: str = ""


def parse_specification(text: str) -> Specification:
    """Read NAME or NAME:key=value,key=value.

    Args:
        text: The text; values are integers, numbers, fractions such as 8/255, true or false, or
            words.

    Returns:
        The specification.

    Raises:
        InputError: When a name, a key or a value is missing, a key comes twice, a number is not
            finite, or the text is too long.
    """
    if len(text) > _LONGEST:
        raise InputError(f"{_short(text)!r} has {len(text):,} letters; write NAME:key=value")
    name, colon, rest = text.strip().partition(":")
    options: dict[str, _Value] = {}
    for part in rest.split(",") if colon else ():
        key, equals, value = part.strip().partition("=")
        if not (key and equals and value) or key in options:
            raise InputError(
                f"cannot read {_short(part)!r} in {_short(text)!r}; write NAME:key=value,key=value"
            )
        number = _value(value)
        if not isinstance(number, str | bool) and not abs(number) <= _LARGEST:  # also NaN
            raise InputError(
                f"{key} is {_short(value)} in {_short(text)!r}; write a finite number below 2^63"
            )
        options[key.replace("-", "_")] = number
    if not name:
        raise InputError(f"{_short(text)!r} names no method; write NAME or NAME:key=value")
    return Specification(name.replace("-", "_"), options, text.strip())


def parse_number(text: str) -> float:
    """Read a number or a fraction such as 8/255.

    Args:
        text: The text.

    Returns:
        The number.

    Raises:
        InputError: When the text is neither.
    """
    value = _value(text)
    if isinstance(value, str | bool):
        raise InputError(f"{_short(text)!r} is not a number; write 0.25 or 8/255")
    try:
        return float(value)
    except OverflowError as error:  # a whole number beyond the largest float
        raise InputError(f"{_short(text)!r} is too large; write 0.25 or 8/255") from error


def check_options(
    specification: Specification, function: Callable[..., Any], *, exclude: Iterable[str] = ()
) -> dict[str, _Value]:
    """Return the options when the function takes all of them.

    Args:
        specification: What was asked for.
        function: The method; its keyword-only arguments are the options.
        exclude: Arguments that the caller supplies.

    Returns:
        The options.

    Raises:
        InputError: When an option is unknown or of a wrong type.
    """
    known = {
        name: set(get_args(parameter.annotation)) or {parameter.annotation}
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in set(exclude)
    }
    for key, value in specification.options.items():
        if key not in known:
            offered = ", ".join(sorted(known)) or "no options"
            raise InputError(f"{specification.name} has no option {key!r}; it takes {offered}")
        kinds = known[key] & {int, float, str, bool}
        words = sorted(word for word in known[key] if isinstance(word, str))
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if kinds and kinds <= {int, float} and not is_number:
            raise InputError(f"{specification.name}:{key} is {value!r}; expected a number")
        if kinds == {str} and not isinstance(value, str):
            raise InputError(f"{specification.name}:{key} is {value!r}; expected a word")
        if (
            words and value not in words and not hasattr(function, "__post_init__")
        ):  # says it itself
            raise InputError(
                f"{specification.name}:{key} is {value!r}; expected {' or '.join(words)}"
            )
        if kinds == {bool} and not isinstance(value, bool):
            raise InputError(f"{specification.name}:{key} is {value!r}; expected true or false")
        if kinds == {int} and isinstance(value, float):
            raise InputError(f"{specification.name}:{key} is {value}; expected a whole number")
    return dict(specification.options)


def choose(name: str, known: Iterable[str], *, what: str) -> str:
    """Return a name when it is known.

    Args:
        name: The name asked for.
        known: All names.
        what: What is named, for the message.

    Returns:
        The same name.

    Raises:
        InputError: When it is not known; the message lists the known ones.
    """
    names = sorted(known)
    if name not in names:
        raise InputError(f"unknown {what} {_short(name)!r}; known: {', '.join(names)}")
    return name


def _value(text: str) -> _Value:
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    fraction = _FRACTION.fullmatch(text)
    if fraction and float(fraction[2]):
        return float(fraction[1]) / float(fraction[2])
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"


def split_specifications(text: str) -> tuple[str, ...]:
    """Split 'product,smoothing:sigma=.25,n=10000,first_order' into its methods.

    A part such as 'n=10000' belongs to the method before it.

    Args:
        text: Methods separated by commas.

    Returns:
        One text per method.

    Raises:
        InputError: When a part is empty or a method comes twice.
    """
    methods: list[str] = []
    for part in (piece.strip() for piece in text.split(",")):
        if not part:
            raise InputError(f"{_short(text)!r} has an empty part; write NAME,NAME:key=value")
        if "=" in part and ":" not in part and methods and ":" in methods[-1]:
            methods[-1] += f",{part}"
        else:
            methods.append(part)
    repeated = next((name for name, count in Counter(methods).items() if count > 1), None)
    if repeated:
        raise InputError(f"{_short(repeated)!r} comes twice in {_short(text)!r}; name it once")
    return tuple(methods)
