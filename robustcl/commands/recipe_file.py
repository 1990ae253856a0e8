"""Read the options of a training run from a TOML file."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from robustcl.commands.typed_options import check_types
from robustcl.core.plain_file import read_toml
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
        entries = read_toml(Path(place))
    except ValueError as error:
        raise InputError(
            f"--recipe {place!r} is not a readable TOML file: it {error}; give one with options of "
            "the command"
        ) from error
    known = {entry.name for entry in fields(options)} - {"recipe"}
    found: dict[str, Any] = {}
    for key, value in entries.items():
        name = key.replace("-", "_")
        if name not in known:
            raise InputError(
                f"unknown key {key[:60]!r} in {place!r}; known: {', '.join(sorted(known))}"
            )
        if name in found:
            raise InputError(f"{name!r} comes twice in {place!r}; keep one")
        found[name] = value
    check_types(options, found, repr(place))
    return [*(_word(name, value) for name, value in found.items()), *words]


def _word(name: str, value: str | float | bool) -> str:
    # In one word: a text that begins with a dash is no option.
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    return f"--{option}={value}"
