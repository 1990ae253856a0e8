"""Run the user's own code that builds a network, on the user's word only.

A file never decides which code is run. What a user has typed once for a checkpoint is kept in the
user's own configuration folder: the code's file with its hash, the function, and the checkpoint's
hash. Later commands need no `--arch` for that checkpoint while both are unchanged.
"""

import hashlib
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from robustcl.core.errors import CheckpointError, InputError, RunError
from robustcl.core.files import read_json
from robustcl.core.memory import is_out_of_memory
from robustcl.core.schema import parse
from robustcl.core.user_file import write_user_file

_MOST_APPROVED = 10_000


@dataclass(frozen=True)
class Factory:
    """Name code that builds a network.

    Args:
        file: Of the code, absolute.
        sha256: Of the file, when it was named.
        name: Of the function or class in it.
        module: How it is imported, as in 'package.module'; '' for a file by its path.
    """

    file: str
    sha256: str
    name: str
    module: str = ""

    @property
    def architecture(self) -> str:
        """What a checkpoint says: the module or the file's own name, and the function."""
        return f"{self.module or Path(self.file).name}:{self.name}"


def find_factory(text: str) -> Factory:
    """Find code that the user has typed, without running it.

    Args:
        text: 'FILE.py:factory' or 'package.module:factory'.

    Returns:
        The factory.

    Raises:
        InputError: When there is no such file or module.
    """
    where, _, name = text.rpartition(":")
    if not name.isidentifier() or not where:
        raise InputError(f"{text[:200]!r} names no code; write FILE.py:factory")
    if where.endswith(".py"):
        place = Path(where)
        if not place.is_file():
            raise InputError(f"there is no file {where!r}; check the path of {text[:200]!r}")
        return Factory(str(place.resolve()), _hash(place), name)
    with _own_folder():
        try:
            found = importlib.util.find_spec(where)
        except (ImportError, ValueError, AttributeError) as error:
            raise InputError(_absent(text, where, str(error))) from error
    if found is None or not found.origin or not Path(found.origin).is_file():
        raise InputError(_absent(text, where, "there is no such module"))
    place = Path(found.origin).resolve()
    return Factory(str(place), _hash(place), name, where)


def _absent(text: str, module: str, reason: str) -> str:
    return (
        f"architecture {text[:200]!r} cannot be built ({reason[:200]}); {module!r} is looked for "
        "in this folder and where Python looks, or name its file, as in FILE.py:factory"
    )


def call_factory(factory: Factory, arguments: Mapping[str, Any]) -> nn.Module:
    """Run the code and return what it builds.

    Args:
        factory: What the user has typed, or approved.
        arguments: Keyword arguments.

    Returns:
        The network.

    Raises:
        InputError: When the file has changed since it was named, or the code fails, or builds no
            network.
    """
    place = Path(factory.file)
    if not place.is_file() or _hash(place) != factory.sha256:
        raise InputError(f"{factory.file!r} has changed since it was named; name it again")
    text = factory.architecture
    try:
        build = getattr(_imported(factory), factory.name)
        network = build(**arguments)
    except SystemExit as error:  # of the user's own code, which is not to end the command
        raise InputError(f"architecture {text!r} cannot be built (SystemExit: {error})") from error
    except Exception as error:
        if isinstance(error, InputError) or is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"architecture {text!r} cannot be built ({type(error).__name__}: {reason})"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(f"{text!r} gives a {type(network).__name__}, not a nn.Module")
    return network


def _imported(factory: Factory) -> Any:
    place = Path(factory.file)
    if factory.module:
        root = place.parent
        for _ in range(factory.module.count(".") + int(place.name == "__init__.py")):
            root = root.parent
        with _own_folder(str(root)):
            module = importlib.import_module(factory.module)
        found = Path(str(module.__file__)).resolve()
        if found != place:
            raise InputError(f"{factory.module!r} is {str(found)!r}, not {factory.file!r}")
        return module
    name = f"_robustcl_factory_{factory.sha256[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.spec_from_file_location(name, place)
    if found is None or found.loader is None:
        raise InputError(f"{factory.file!r} is no Python file")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        with _own_folder(str(place.parent)):
            found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _own_folder(folder: str | None = None) -> Iterator[None]:
    # Last in the path, so that no file of the user stands for a module of a library.
    added = folder or str(Path.cwd())
    sys.path.append(added)
    try:
        yield
    finally:
        sys.path.remove(added)


def _hash(place: Path) -> str:
    return hashlib.sha256(place.read_bytes()).hexdigest()


@dataclass(frozen=True)
class _Approved:
    # What the configuration file holds.
    approved: dict[str, Factory]


def approvals_file() -> Path:
    """Name the file of approvals, in the user's configuration folder.

    Returns:
        `$XDG_CONFIG_HOME/robustcl/approved.json`, or that in `~/.config`.
    """
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "robustcl" / "approved.json"


def approve(factory: Factory, checkpoint: str) -> None:
    """Keep that the user has named this code for a checkpoint.

    Args:
        factory: The code.
        checkpoint: SHA-256 of the checkpoint. A configuration folder that cannot be written is
            left as it is: the option has to be given again.
    """
    place = approvals_file()

    def changed() -> str | None:
        known = dict(_read(place))
        if known.get(checkpoint) == factory:
            return None
        known.pop(checkpoint, None)
        known[checkpoint] = factory
        kept = dict(list(known.items())[-_MOST_APPROVED:])
        content = {"approved": {key: asdict(value) for key, value in kept.items()}}
        return json.dumps(content, indent=1) + "\n"

    with suppress(OSError, RunError):
        write_user_file(place, changed)


def approved(checkpoint: str, architecture: str) -> Factory:
    """Return the code that the user has named for a checkpoint.

    Args:
        checkpoint: SHA-256 of the checkpoint.
        architecture: What the checkpoint says, for messages.

    Returns:
        The code.

    Raises:
        CheckpointError: When there is none, or its file has changed or is gone.
    """
    cure = f"add --arch {_typed(architecture)} if you trust it"
    found = _read(approvals_file()).get(checkpoint)
    if found is None or found.architecture != architecture:
        raise CheckpointError(
            f"the model was made by the code {architecture!r}, which is not run on a file's word; "
            f"{cure}"
        )
    place = Path(found.file)
    if not place.is_file():
        raise CheckpointError(f"the code {found.file!r} that was approved is gone; {cure}")
    if _hash(place) != found.sha256:
        raise CheckpointError(
            f"the code {found.file!r} has changed since it was approved; look at it, and {cure}"
        )
    return found


def _typed(architecture: str) -> str:
    return architecture if ".py:" not in architecture else f"PATH/{architecture}"


def _read(place: Path) -> Mapping[str, Factory]:
    if not place.is_file():
        return {}
    try:
        content = read_json(place)
    except ValueError as error:
        raise CheckpointError(f"{str(place)!r} {error}; remove it") from error
    return parse(
        _Approved, content, what=repr(str(place)), error=CheckpointError, cure="remove it"
    ).approved


def same_code(typed: str, architecture: str) -> bool:
    """Tell whether typed code is what a checkpoint names.

    Args:
        typed: As in 'some/where/net.py:make'.
        architecture: As in 'net.py:make'.

    Returns:
        Whether module or file name, and function, are the same.
    """
    where, _, name = typed.rpartition(":")
    short = Path(where).name if where.endswith(".py") else where
    return f"{short}:{name}" == architecture
