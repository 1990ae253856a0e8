"""Open the two commands, `certify` and `robustcl`."""

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import tyro

from robustcl.commands.keep_freed_memory import keep_freed_memory
from robustcl.commands.recipe_file import with_recipe
from robustcl.core.terminal import say, say_lines, tame_warnings
from robustcl.errors import RobustclError, ViolationError

CERTIFY = ("run", "demo", "methods")
ROBUSTCL = (
    "train",
    "convert",
    "probe",
    "embed",
    "attack",
    "multiview",
    "bench",
    "inspect",
    "report",
    "reproduce",
    "doctor",
)
# What a path that the user named can be at fault for; other errors of the system are not theirs.
BAD_PATH = frozenset({
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS),
})


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
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Only the command asked for is imported: help and errors come at once.
    wanted = [name for name in names if words[:1] == [name]] or list(names)
    modules = {name: importlib.import_module(f"robustcl.commands.{name}") for name in wanted}
    options = {
        name: getattr(module, f"{name.capitalize()}Options") for name, module in modules.items()
    }
    keep_freed_memory()
    tame_warnings()
    try:
        if wanted == ["train"]:  # a recipe's options go before those of the command line
            words = ["train", *with_recipe(words[1:], options["train"])]
        if len(wanted) == 1:
            parsed = tyro.cli(options[wanted[0]], prog=f"{program} {wanted[0]}", args=words[1:])
            name = wanted[0]
        else:
            parsed = tyro.extras.subcommand_cli_from_dict(
                options, prog=program, description=description, args=words or ["--help"]
            )
            name = next(name for name in wanted if isinstance(parsed, options[name]))
        code = getattr(modules[name], name)(parsed)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except Exception as error:  # noqa: BLE001 - the last one; see `_failed`
        return _failed(error)


def _failed(error: Exception) -> int:
    # Code 1 is kept for violations, so nothing leaves a command as an exception.
    if isinstance(error, RobustclError):
        say(f"error: {error}")
        return 1 if isinstance(error, ViolationError) else 2
    if isinstance(error, BrokenPipeError):
        # Whoever read stdout is gone; what is left must not be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 6
    if isinstance(error, OSError):
        say(f"error: {error}")
        return 2 if error.errno in BAD_PATH else 6
    if isinstance(error, MemoryError):
        say("error: memory ran out; use a smaller --batch-size or --limit")
        return 6
    say_lines(traceback.format_exc())
    say(f"error: unexpected {type(error).__name__}: {error}; please report it")
    return 5
