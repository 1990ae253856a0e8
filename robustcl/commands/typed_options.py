"""Check values that a file gives for the options of a command, before the command line does."""

from collections.abc import Mapping
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Any, get_args, get_type_hints

from robustcl.core.printable import printable
from robustcl.core.schema import objection_to, objection_to_values
from robustcl.errors import InputError

SHOWN = 60  # signs of a value in a message


def check_types(options: type, entries: Mapping[str, Any], where: str) -> None:
    """Refuse values of another type than the options have.

    Args:
        options: The dataclass whose fields are the options.
        entries: Values by the names of fields, as TOML gives them; a path is a text.
        where: The file or table, for the message.

    Raises:
        InputError: When a value is of another type, not finite, or beyond 64 bits.
    """
    hints = _hints(options)
    for name, value in entries.items():
        wrong = objection_to_values(value, where=name) or ""
        if not wrong:
            found = objection_to(hints[name], value)
            shown = repr(value)
            shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
            wrong = f"{name} is {shown}: {found}" if found else ""
        if wrong:
            raise InputError(
                f"{where}: {printable(wrong)}; write it as the help of the command says"
            )


@cache
def _hints(options: type) -> Mapping[str, Any]:
    found = {}
    for name, hint in get_type_hints(options).items():
        parts = get_args(hint)
        if hint is Path or Path in parts:
            hint = reduce(or_, (str if part is Path else part for part in parts or (hint,)))
        found[name] = hint
    return found
