"""Read a command of the pages without running it."""

import argparse
import importlib
import runpy
import sys
from pathlib import Path
from unittest.mock import patch

import tyro

from robustcl.cli import main as cli
from robustcl.options.recipe_file import with_recipe
from tests.docs.pages import ROOT, Command

PROGRAMS = {"certify": cli.CERTIFY, "robustcl": cli.ROBUSTCL}


class ReadError(Exception):
    """Stand for the end of reading the options of a script, before it does anything."""


def read_only(one: Command) -> None:
    """Read every option of a command, as it would be read if it were run, and run nothing."""
    words = list(one.words)
    if words[0] == "torchrun":
        start = words.index("--no-python" if "--no-python" in words else "-m") + 1
        words = words[start:]
    program, *words = words
    if program == "python":
        _read_script(words)
        return
    name, *words = words
    options = options_of(program, name)
    if name == "train":
        words = with_recipe(words, options)
    with patch.object(sys, "exit", side_effect=AssertionError(f"{one.text} cannot be read")):
        tyro.cli(options, args=words)


def options_of(program: str, name: str) -> type:
    """Return the dataclass of a command's options."""
    assert name in PROGRAMS[program], f"{program} has no command {name!r}"
    module = importlib.import_module(f"robustcl.options.{name}")
    return getattr(module, f"{name.capitalize()}Options")


def _read_script(words: list[str]) -> None:
    _, unknown = script_options(words)
    assert not unknown, f"{words[0]} does not take {unknown}"


def script_options(words: list[str], *, partly: bool = False) -> tuple[list[str], list[str]]:
    """Read a script's options by its own parser.

    Args:
        words: The script and its options.
        partly: Whether required options may be left out.

    Returns:
        The options it knows, and the words it does not take.
    """
    place = ROOT / words[0]
    assert place.is_file(), f"there is no script {words[0]}"
    found: list[list[str]] = []

    def reading(parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        for action in parser._actions:
            action.required = action.required and not partly
        unknown = parser.parse_known_args(words[1:])[1]
        found.extend([[flag for a in parser._actions for flag in a.option_strings], unknown])
        raise ReadError

    with (
        patch.object(argparse.ArgumentParser, "parse_args", reading),
        patch.object(sys, "argv", words),
        patch.object(sys, "path", [*sys.path]),
    ):
        try:
            runpy.run_path(str(place), run_name="__main__")
        except ReadError:
            return found[0], found[1]
    raise AssertionError(f"{Path(words[0]).name} reads no options")
