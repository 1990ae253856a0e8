"""Open the two commands, `certify` and `robustcl`."""

import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from robustcl.core.last_handler import ENVIRONMENT, exit_code, signals_stop
from robustcl.core.processors import foreign_exits_abort, share_processors
from robustcl.core.started import restart
from robustcl.core.terminal import flush_streams, prepare_streams, tame_warnings

CERTIFY = ("run", "demo", "methods")
ROBUSTCL = (
    "train",
    "convert",
    "probe",
    "prompts",
    "embed",
    "attack",
    "multiview",
    "bench",
    "inspect",
    "report",
    "reproduce",
    "doctor",
)


def certify(arguments: Sequence[str] | None = None) -> int:
    """Run `certify`.

    Args:
        arguments: The command line; sys.argv by default.

    Returns:
        The exit code.
    """
    return _main("certify", CERTIFY, "Certify and attack contrastive encoders.", arguments)


def robustcl(arguments: Sequence[str] | None = None) -> int:
    """Run `robustcl`.

    Args:
        arguments: The command line; sys.argv by default.

    Returns:
        The exit code.
    """
    return _main("robustcl", ROBUSTCL, "Train, convert and study encoders.", arguments)


def _main(
    program: str, names: Sequence[str], description: str, arguments: Sequence[str] | None
) -> int:
    # Nothing leaves as an exception: Python would end with code 1, which means a violation.
    own_process = arguments is None
    if not own_process:
        restart()
    if own_process:
        os.environ["MPLBACKEND"] = "agg"  # figures are files: a notebook's choice may be unusable
    try:
        with (
            signals_stop(at_end=own_process),
            foreign_exits_abort() if own_process else nullcontext(),
        ):
            return _guarded(program, names, description, arguments)
    except KeyboardInterrupt as stop:
        return exit_code(stop)


def _guarded(
    program: str, names: Sequence[str], description: str, arguments: Sequence[str] | None
) -> int:
    try:
        prepare_streams()
        words = list(sys.argv[1:] if arguments is None else arguments)
        code = _run(program, names, description, words)
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001 - the last handler
        code = exit_code(error)
    failure = flush_streams()
    # What the command found out counts for more than whether its answer was read.
    if failure is None or code:
        return code
    return ENVIRONMENT if isinstance(failure, BrokenPipeError) else exit_code(failure)


def _run(program: str, names: Sequence[str], description: str, words: list[str]) -> int:
    # Only a command that is run is imported, and torch with it: help and mistakes come at once.
    name, options = _parsed(program, names, description, words)
    from robustcl.core.freed_memory import keep_freed_memory

    share_processors()
    keep_freed_memory()
    tame_warnings()
    module = importlib.import_module(f"robustcl.cli.{name}")
    return getattr(module, name)(options)


def _parsed(
    program: str, names: Sequence[str], description: str, words: list[str]
) -> tuple[str, Any]:
    from robustcl.options.read import options_of, read_command, read_options
    from robustcl.options.recipe_file import with_recipe

    if words[:1] not in [[name] for name in names]:
        found = read_command(
            {name: options_of(name) for name in names},
            words or ["--help"],
            program=program,
            description=description,
        )
        return next(name for name in names if isinstance(found, options_of(name))), found
    name, options = words[0], options_of(words[0])
    rest = words[1:]
    if name == "train":  # a recipe's options go before those of the command line
        rest = with_recipe(rest, options)
    return name, read_options(options, rest, program=f"{program} {name}")
