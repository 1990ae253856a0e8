"""Write a run folder: its manifest, and one file of JSON lines per process."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock

from robustcl.errors import RunError
from robustcl.runs.ranks import rank, rank_count
from robustcl.runs.records import read_manifest, write_json

PATIENCE = 600.0  # seconds that other processes wait for the first
FORM = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY


def start_run(folder: Path, manifest: Mapping[str, Any], *, resume: bool) -> bool:
    """Make a run folder, or go on with one.

    Of several processes the first makes it, and the others wait for it.

    Args:
        folder: Where the run is written.
        manifest: States the run; its `config_hash` tells one run from another.
        resume: Whether to go on with the same run where the folder holds it.

    Returns:
        Whether the run was complete before.

    Raises:
        RunError: When the folder holds a run and `resume` is off, or it is another run, or it
            holds files but no run.
    """
    place = folder / "manifest.json"
    if rank():
        _wait_for(place, folder)
    elif not place.exists():
        if folder.is_dir() and any(folder.glob("records-*.jsonl")):
            raise RunError(f"{str(folder)!r} has records but no manifest; give a new --out")
        (folder / "arrays").mkdir(parents=True, exist_ok=True)
        write_json(place, manifest)
        return False
    elif not resume:
        raise RunError(
            f"{str(folder)!r} already holds a run; add --resume to go on with it, or give a new "
            "--out"
        )
    found = read_manifest(folder)
    if found.get("config_hash") != manifest["config_hash"]:
        raise RunError(
            f"{str(folder)!r} holds another run ({_difference(found, manifest)}); give a new "
            "--out, or repeat the options of that run"
        )
    own = folder / f"records-{rank()}.jsonl"
    if own.exists():
        _cut_partial_line(own)
    return bool(found.get("complete"))


def append_records(folder: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Append records as whole lines, which a process that is killed leaves behind.

    Args:
        folder: The run folder.
        records: What to append; numbers that are not finite are written as null.
    """
    lines = b"".join(orjson.dumps(record, option=FORM) for record in records)
    with (folder / f"records-{rank()}.jsonl").open("ab") as stream:
        stream.write(lines)


def sync_records(folder: Path) -> None:
    """Put this process's records on the disk, so that they outlast the machine as well.

    Args:
        folder: The run folder.
    """
    with (folder / f"records-{rank()}.jsonl").open("ab") as stream:
        os.fsync(stream.fileno())


def update_manifest(folder: Path, changes: Mapping[str, Any]) -> None:
    """Change entries of the manifest, one process at a time.

    Args:
        folder: The run folder.
        changes: Entries that are set.
    """
    with FileLock(folder / ".lock"):
        write_json(folder / "manifest.json", {**read_manifest(folder), **changes})


def finish_run(
    folder: Path,
    whole: Callable[[], bool],
    *,
    seconds: float,
    before: bool,
    extra: Mapping[str, Any],
) -> bool:
    """Mark a run as complete in its manifest, once all of its records are there.

    Args:
        folder: The run folder.
        whole: Tells whether all records are there.
        seconds: Time of this session, which is added to earlier sessions' time.
        before: Whether the run was complete at the start.
        extra: Further entries of the manifest.

    Returns:
        Whether it is this process that reports the run: of several, the one that was last. A run
        that was complete before is the first process's.
    """
    with FileLock(folder / ".lock"):
        manifest = read_manifest(folder)
        if manifest.get("complete") and rank_count() > 1:
            return before and rank() == 0
        if not whole():
            return False
        total = float(manifest.get("seconds") or 0.0) + seconds
        changes = {**extra, "seconds": total, "complete": True}
        write_json(folder / "manifest.json", {**manifest, **changes})
        return True


def _cut_partial_line(place: Path) -> None:
    content = place.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with place.open("r+b") as stream:
            stream.truncate(whole)


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    before, now = found.get("config", {}), wanted.get("config", {})
    for key in sorted({*before, *now}):
        if key == "defaults" and before.get(key) != now.get(key):
            return f"made when other defaults held; now {', '.join(now.get(key) or ['none'])}"
        if before.get(key) != now.get(key):
            return f"its {key} is {before.get(key)!r}, not {now.get(key)!r}"
    return "made by another version"


def _wait_for(place: Path, folder: Path) -> None:
    ends = time.monotonic() + PATIENCE
    while not place.exists():
        if time.monotonic() > ends:
            raise RunError(
                f"{str(folder)!r} still has no manifest after {PATIENCE:.0f} s, which the process "
                "of RANK 0 writes; start it, or lower the ranks so that one is 0"
            )
        time.sleep(0.05)
