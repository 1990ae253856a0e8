"""Open the two commands, `certify` and `robustcl`."""

import importlib
import sys
from collections.abc import Sequence

import tyro

from robustcl.commands.keep_freed_memory import keep_freed_memory
from robustcl.commands.recipe_file import with_recipe
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
        return getattr(modules[name], name)(parsed)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except RobustclError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1 if isinstance(error, ViolationError) else 2
