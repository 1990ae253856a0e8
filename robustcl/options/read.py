"""Read a command line into the dataclass of its command; a mistake is one line."""

import contextlib
import importlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import tyro

from robustcl.core.errors import InputError
from robustcl.core.terminal import say_lines

_Found = TypeVar("_Found")
_RULE = re.compile(r"^[─\-]{3,}$")
_HELP = 8  # columns from which tyro writes what an option is for


def options_of(name: str) -> type:
    """Return the dataclass of a command's options.

    Args:
        name: The command.

    Returns:
        The dataclass.
    """
    module = importlib.import_module(f"robustcl.options.{name}")
    return getattr(module, f"{name.capitalize()}Options")


def read_options(options: type[_Found], words: Sequence[str], *, program: str) -> _Found:
    """Read the options of one command.

    Args:
        options: The dataclass.
        words: The command line after the command's name.
        program: What the command is called.

    Returns:
        The options. After --help the process ends.

    Raises:
        InputError: When an option is unknown, missing or unusable.
    """
    return _read(lambda: tyro.cli(options, prog=program, args=list(words)), program)


def read_command(
    options: Mapping[str, type], words: Sequence[str], *, program: str, description: str
) -> Any:
    """Read a command line whose first word is no command: show the help, or refuse it.

    Args:
        options: The dataclass of every command.
        words: The command line.
        program: What the program is called.
        description: What it is for.

    Returns:
        The options of the command that was named.

    Raises:
        InputError: When there is no such command.
    """
    return _read(
        lambda: tyro.extras.subcommand_cli_from_dict(
            dict(options), prog=program, description=description, args=list(words)
        ),
        program,
    )


def _read(parse: Callable[[], _Found], program: str) -> _Found:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parse()
    except SystemExit as stop:
        line = one_line(said.getvalue()) if stop.code == 2 else ""
        if not line:
            say_lines(said.getvalue())
            raise
    raise InputError(f"{line}; see {program} --help")


def one_line(box: str) -> str:
    """Take the message out of the frame that tyro draws around it.

    Args:
        box: What was written: a title, the message, further parts between rules, a hint at --help.

    Returns:
        The message, and what was perhaps meant; '' where there is none.
    """
    _, *lines = box.splitlines() or [""]
    if lines and _RULE.match(lines[0].strip()):  # below the title, where frames are ASCII
        del lines[0]
    parts: list[list[str]] = [[]]
    for line in lines:
        text = line[2:].rstrip().removesuffix("│").rstrip()
        if _RULE.match(text.strip()):
            parts.append([])
        elif not line.startswith("╰"):
            parts[-1].append(text)
    message = _sentence(parts[0])
    meant = [_sentence(part) for part in parts[1:] if part and part[0].startswith("Perhaps")]
    return "; ".join(filter(None, [message, *(text.lower() for text in meant)]))


def _sentence(lines: Sequence[str]) -> str:
    # Up to an empty line; the texts about the options are for --help.
    kept: list[str] = []
    for line in lines:
        if not line.strip():
            break
        if len(line) - len(line.lstrip()) < _HELP:
            kept.append(line.strip())
    return " ".join(kept).rstrip(".")
