"""Tell a file from what only looks like one: a pipe, a device, a socket."""

import stat
from pathlib import Path

KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


def objection_to_file(path: Path) -> str | None:
    """Say why a path cannot be read as a file; opening a pipe would wait for ever.

    Links are followed: one that leads to an ordinary file is fine.

    Args:
        path: The path.

    Returns:
        'does not exist', 'is a named pipe, no file' and the like; None for an ordinary file.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        broken = path.is_symlink()
        return "is a link that leads nowhere" if broken else "does not exist"
    except (OSError, ValueError) as error:  # a loop of links, a name too long, a zero byte
        return f"cannot be opened ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISREG(mode):
        return None
    kind = next((name for test, name in KINDS if test(mode)), "something else")
    return f"is {kind}, no file"
