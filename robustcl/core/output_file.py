"""Check a file that a command is to write, before it computes anything."""

import os
from collections.abc import Callable
from pathlib import Path

from robustcl.core.plain_name import LONGEST
from robustcl.core.printable import printable
from robustcl.core.regular_file import objection_to_file
from robustcl.errors import InputError


def check_output(
    path: Path,
    *,
    overwrite: bool,
    ours: Callable[[Path], bool],
    kind: str,
    inputs: tuple[Path, ...] = (),
) -> None:
    """Refuse a path at which a file cannot be written, or must not.

    Args:
        path: Where the file goes.
        overwrite: Whether a file of ours may be replaced.
        ours: Tells whether a file that is there is one that robustcl wrote, of the same kind.
        kind: What it is then, as in 'checkpoint'.
        inputs: Files that the command reads, and therefore does not replace.

    Raises:
        InputError: When it is a link, a folder, a pipe, another's file, an input, or in no folder;
            or it exists and may not be replaced.
    """
    shown = printable(repr(str(path)))
    if len(os.fsencode(path.name)) > LONGEST:
        raise InputError(f"{shown} has a name of more than {LONGEST} bytes; give a shorter one")
    if "\0" in str(path):
        raise InputError(f"{shown} has a zero byte, which no path may have; give another --out")
    if path.is_symlink():
        raise InputError(f"{shown} is a link; name the file that is to be written itself")
    if not os.path.lexists(path):
        _check_parents(path, shown)
        return
    objection = objection_to_file(path)
    if objection is not None:
        raise InputError(f"{shown} {objection}; give another --out")
    if not overwrite:
        raise InputError(f"{shown} exists; give another --out, or add --overwrite")
    if any(given.exists() and path.samefile(given) for given in inputs):
        raise InputError(f"{shown} is read by this command; give another --out")
    if not ours(path):
        raise InputError(
            f"{shown} exists and is no {kind} of robustcl, which --overwrite would replace; move "
            "it away, or give another --out"
        )


def _check_parents(path: Path, shown: str) -> None:
    nearest = path.parent
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        what = "a link that leads nowhere" if nearest.is_symlink() else "a file"
        raise InputError(f"{shown} cannot be written: {str(nearest)!r} is {what}, no folder")
