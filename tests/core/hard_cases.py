"""What is hard to come by: a full disk, and a process that dies."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def forked(work: Callable[[], object]) -> int:
    """Run in a child; return its exit code, or minus the signal that ended it."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:  # noqa: BLE001 - the child must not go on as this process
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@contextmanager
def small_disk(folder: Path, old: str = "", *, kilobytes: int = 1024) -> Iterator[Path]:
    """A small disk, where one may be mounted; the test is skipped elsewhere."""
    place = folder / "disk"
    place.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    if (
        not sys.platform.startswith("linux")
        or subprocess.run(words, check=False, capture_output=True).returncode
    ):
        pytest.skip("no small disk can be mounted here")
    try:
        if old:
            (place / old).write_text("old")
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def enlarge(disk: Path) -> None:
    """Give a small disk as much room as anybody needs."""
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
