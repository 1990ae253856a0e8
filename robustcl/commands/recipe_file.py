"""Read the options of a training run from a TOML file."""

import tomllib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from robustcl.errors import InputError


def with_recipe(words: Sequence[str], options: type) -> list[str]:
    """Put the options of the TOML file that --recipe names before the others.

    Args:
        words: The command line after 'train'.
        options: The dataclass whose fields are the options.

    Returns:
        The longer command line; where an option comes twice, the later counts.

    Raises:
        InputError: When the file is missing or not TOML, or a key or value is not an option.
    """
    place = next(
        (
            words[n + 1] if word == "--recipe" else word.partition("=")[2]
            for n, word in enumerate(words)
            if word.startswith("--recipe=") or (word == "--recipe" and n + 1 < len(words))
        ),
        None,
    )
    if place is None:
        return list(words)
    try:
        entries = tomllib.loads(Path(place).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"--recipe {place} is not a readable TOML file ({error})") from error
    known = {entry.name for entry in fields(options)} - {"recipe"}
    found: list[str] = []
    for key, value in entries.items():
        name = key.replace("-", "_")
        if name not in known:
            raise InputError(f"unknown key {key!r} in {place}; known: {', '.join(sorted(known))}")
        found += _word(name, value, place)
    return [*found, *words]


def _word(name: str, value: Any, place: str) -> list[str]:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    if isinstance(value, str | int | float):
        return [f"--{option}", str(value)]
    raise InputError(f"{name} in {place} is {value!r}; write a number, a text, true or false")
