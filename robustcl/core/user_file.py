"""Write a file of the user's own configuration."""

from collections.abc import Callable
from pathlib import Path

from robustcl.core import atomic
from robustcl.core.locks import changing


def write_user_file(place: Path, change: Callable[[], str | None]) -> None:
    """Change a file in a folder that is made where it is missing; one process at a time.

    Args:
        place: The file.
        change: Gives its new text, or None to leave it; called while no other process writes.

    Raises:
        OSError: When the folder or the file cannot be written.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with changing(place.parent):
        text = change()
        if text is not None:
            with atomic.replacing(place) as temporary:
                temporary.write_text(text, encoding="utf-8")
