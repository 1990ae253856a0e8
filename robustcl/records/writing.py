"""Write a run folder: its manifest, and one file of JSON lines per process."""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustcl.core.errors import RunError
from robustcl.core.listing import objection_to_name
from robustcl.core.locks import changing, session_lock
from robustcl.core.output_folder import OutputFolder
from robustcl.core.terminal import say
from robustcl.records.arrays import array_files
from robustcl.records.json_file import write_sealed
from robustcl.records.lines import record_files, record_line
from robustcl.records.ranks import rank, rank_count
from robustcl.records.reading import read_manifest
from robustcl.records.repair import repair_arrays, repair_manifest, repair_records
from robustcl.records.sessions import compare_sessions, image_ranges, new_session, sessions_of


def slug(*names: str) -> str:
    """Spell names, such as 'smoothing:sigma=.25,n=1000', so that they can be part of a file name.

    Args:
        *names: Names of methods.

    Returns:
        Letters, digits, dots and dashes; different names give different texts.
    """
    text = "-".join(names)
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")
    if plain == text and len(text) <= 60:
        return text
    return f"{plain[:50]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def file_name(text: str) -> str:
    """Spell a text, such as a label that the user chose, as the name of a file, without its ending.

    Args:
        text: The text.

    Returns:
        The text with dashes for separators; `slug` of it where it is no plain name even so.
    """
    plain = text.replace("/", "-")
    return plain if objection_to_name(plain, longest=200) is None else slug(text)


_PATIENCE = 600.0  # seconds that other processes wait for the first


@dataclass(frozen=True)
class Begun:
    """Say where a session finds its run.

    Args:
        complete: Whether the run was complete before.
        session: Number of the session's entry in the manifest.
        lost: Names of arrays that were damaged and are to be computed again.
    """

    complete: bool = False
    session: int = 0
    lost: tuple[str, ...] = ()


@contextmanager
def run_session(folder: Path) -> Iterator[None]:
    """Keep a run folder for this process until the block ends.

    Several processes of one session have a lock each; a second session finds its own one taken.
    Others than the first wait until that has found the folder usable and written its manifest.

    Args:
        folder: The run folder.

    Yields:
        Nothing.

    Raises:
        RunError: When the folder is neither new, nor empty, nor a run, or another session has it.
    """
    if rank():
        _wait_for(folder / "manifest.json", folder)
    else:
        OutputFolder(folder).check_start()
    with session_lock(folder / f".session-{rank()}", repr(str(folder))):
        yield


def start_run(
    folder: Path,
    manifest: Mapping[str, Any],
    *,
    resume: bool,
    mixed: bool = False,
    labels: Sequence[int] | None = None,
) -> Begun:
    """Make a run folder, or go on with one, after damaged lines and arrays were set aside.

    Of several processes the first makes it, and the others wait for it. Each mends its own files,
    and the first those of processes that are no more.

    Args:
        folder: Where the run is written.
        manifest: States the run; its `config_hash` tells one run from another.
        resume: Whether to go on with the same run where the folder holds it.
        mixed: Whether to go on although robustcl or torch is another version.
        labels: Of the data set, which recorded ones are compared with.

    Returns:
        How far the run is.

    Raises:
        RunError: When the folder holds a run and `resume` is off, or it is another run, or it
            holds files but no run, or records of another run, or those of other versions.
    """
    place = folder / "manifest.json"
    if rank():
        _wait_for(place, folder)
    elif not place.exists() and not (resume and record_files(folder)):
        if record_files(folder):
            raise RunError(
                f"{str(folder)!r} has records but no manifest; give a new --out, or add --resume "
                "where they are those of this command"
            )
        OutputFolder(folder).check_start()
        write_sealed(place, {**manifest, "sessions": [new_session(manifest)]})
        return Begun()
    elif not resume:
        raise RunError(
            f"{str(folder)!r} already holds a run; add --resume to go on with it, or give a new "
            "--out"
        )
    return _go_on(folder, manifest, mixed=mixed, labels=labels)


def _go_on(
    folder: Path, manifest: Mapping[str, Any], *, mixed: bool, labels: Sequence[int] | None
) -> Begun:
    own = new_session(manifest)
    with changing(folder):
        told = repair_manifest(folder, manifest)
        found = read_manifest(folder)
    if found.get("config_hash") != manifest["config_hash"]:
        raise RunError(
            f"{str(folder)!r} holds another run ({_difference(found, manifest)}); give a new "
            "--out, or repeat the options of that run"
        )
    told += compare_sessions(str(folder), sessions_of(found), own, mixed=mixed)
    mended, whole = repair_records(folder, found, labels)  # of this process alone: needs no lock
    spoiled, lost = repair_arrays(folder, found)
    for line in (*told, *mended, *spoiled):
        say(line)
    with changing(folder):
        found = read_manifest(folder)
        sessions, complete = sessions_of(found), bool(found.get("complete")) and whole
        changes = {"sessions": [*sessions, own], "complete": complete}
        write_sealed(folder / "manifest.json", {**found, **changes})
    return Begun(complete, len(sessions), lost)


def append_records(folder: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Append records as whole lines, which a process that is killed leaves behind.

    Where the disk is full, none of them is left.

    Args:
        folder: The run folder.
        records: What to append; numbers that are not finite are written as null.
    """
    lines = b"".join(map(record_line, records))
    OutputFolder(folder).append(f"records-{rank()}.jsonl", lines)


def sync_records(folder: Path) -> None:
    """Put this process's records on the disk, so that they outlast the machine as well.

    Args:
        folder: The run folder.
    """
    OutputFolder(folder).sync(f"records-{rank()}.jsonl")


def update_manifest(folder: Path, changes: Mapping[str, Any]) -> None:
    """Change entries of the manifest, one process at a time.

    Args:
        folder: The run folder.
        changes: Entries that are set.
    """
    with changing(folder):
        write_sealed(folder / "manifest.json", {**read_manifest(folder), **changes})


def note_sessions(folder: Path, made: Mapping[int, np.ndarray], own: int) -> None:
    """Write into the manifest which images each session measured, and which arrays there are.

    Args:
        folder: The run folder.
        made: By number of a session, (N,) whether it made a record of the image.
        own: Number of this session, which is left out if it made nothing and is the last.
    """
    with changing(folder):
        manifest = read_manifest(folder)
        sessions = sessions_of(manifest)
        for number, rows in made.items():
            # Of processes that run at the same time each knows best about itself.
            known = number < len(sessions)
            if known and (number == own or rank_count() == 1 or not sessions[number]["images"]):
                sessions[number]["images"] = image_ranges(np.flatnonzero(rows))
        if own == len(sessions) - 1 and own and not made[own].any():
            sessions.pop()
        arrays = sorted({name for _, name, _ in array_files(folder)})
        changes = {"sessions": sessions, "arrays": arrays}
        write_sealed(folder / "manifest.json", {**manifest, **changes})


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
    with changing(folder):
        manifest = read_manifest(folder)
        if manifest.get("complete") and rank_count() > 1:
            return before and rank() == 0
        if not whole():
            return False
        total = float(manifest.get("seconds") or 0.0) + seconds
        changes = {**extra, "seconds": total, "complete": True}
        write_sealed(folder / "manifest.json", {**manifest, **changes})
        return True


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    # Both as JSON gives them back, in which a tuple is a list.
    before, now = found.get("config", {}), json.loads(json.dumps(wanted.get("config", {})))
    for key in sorted({*before, *now}):
        if key == "defaults" and before.get(key) != now.get(key):
            return f"made when other defaults held; now {', '.join(now.get(key) or ['none'])}"
        if before.get(key) != now.get(key):
            return f"its {key} is {before.get(key)!r}, not {now.get(key)!r}"
    return "made by another version"


def _wait_for(place: Path, folder: Path) -> None:
    ends = time.monotonic() + _PATIENCE
    while not place.exists():
        if time.monotonic() > ends:
            raise RunError(
                f"{str(folder)!r} still has no manifest after {_PATIENCE:.0f} s, which the process "
                "of RANK 0 writes; start it, or lower the ranks so that one is 0"
            )
        time.sleep(0.05)
