"""Load a checkpoint and print what could not be checked."""

from pathlib import Path

from robustcl.core.terminal import say
from robustcl.models.checkpoint import Loaded, load_checkpoint
from robustcl.records.ranks import rank


def load_and_tell(path: str | Path, *, arch: str | None = None) -> Loaded:
    """Load a checkpoint; the first process writes its notes on stderr.

    Args:
        path: The file.
        arch: As in `load_checkpoint`.

    Returns:
        What is in it.
    """
    loaded = load_checkpoint(path, arch=arch)
    if rank() == 0:
        for note in loaded.notes:
            say(f"note: {note}")
    return loaded
