"""Set aside what is damaged in a run folder, so that a session can compute it again.

Nothing that can be read is thrown away: damaged lines of `records-N.jsonl` go to
`records-N.damaged`, a damaged file of arrays gets the ending `.damaged`, and a damaged manifest
becomes `manifest.damaged.json`.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustcl.errors import RunError
from robustcl.runs.arrays import array_faults, array_files, written_for
from robustcl.runs.json_file import write_sealed
from robustcl.runs.ledger import Ledger, checked_lines, contradictions
from robustcl.runs.ranks import rank, rank_count
from robustcl.runs.record_lines import (
    OLD_SCHEMA,
    Fault,
    measures_of,
    numbered_lines,
    parsed_line,
    record_files,
    terms_of,
)
from robustcl.runs.records import read_manifest


def repair_manifest(folder: Path, wanted: Mapping[str, Any]) -> list[str]:
    """Write the manifest again where it is lost or damaged and the rest is of the wanted run.

    Args:
        folder: The run folder.
        wanted: As a new run with the same options would have it.

    Returns:
        A line about what was done; nothing where nothing was.

    Raises:
        RunError: When the manifest is damaged and what else is there is of another run, or does
            not say of which.
    """
    place = folder / "manifest.json"
    try:
        read_manifest(folder)
    except RunError as error:
        lines = [line for file in record_files(folder) for _, line in numbered_lines(file)]
        whole = [record for record, wrong in map(_parsed, lines) if not wrong]
        arrays = {written_for(file) for file, _, _ in array_files(folder)} - {""}
        configs = {str(record.get("config")) for record in whole} | arrays
        if configs != {wanted["config_hash"]} or "has schema" in str(error):
            raise RunError(
                f"{error}; but what else is in the folder is not known to be of this command: "
                "give a new --out"
            ) from error
        old = any(b'"crc":"' not in line for line in lines)
        numbers = (record.get("session", 0) for record in whole)
        last = max((number for number in numbers if type(number) is int), default=0)
        lost = [{"begun": "not known", "images": ""}] * (last + 1)
        kept = place.with_name("manifest.damaged.json")
        if place.exists():
            place.replace(kept)
        schema = OLD_SCHEMA if old else wanted["schema"]
        write_sealed(place, {**wanted, "schema": schema, "sessions": lost})
        return [f"{error}: it is written again; the old one, if any, is {str(kept)!r}"]
    return []


def repair_records(
    folder: Path, manifest: Mapping[str, Any], labels: Sequence[int] | None
) -> tuple[list[str], bool]:
    """Move damaged lines out of the files of this process, and of processes that are no more.

    Args:
        folder: The run folder.
        manifest: Of the run.
        labels: Of the data set; None where it is not at hand.

    Returns:
        A line per file that was mended, and whether every record was there and sound.

    Raises:
        RunError: When there are records of another run.
    """
    ledger, faults = Ledger(terms_of(manifest), labels), list[Fault]()
    checked = manifest.get("schema") != OLD_SCHEMA
    for _, fault in checked_lines(folder, ledger, checked=checked):
        if fault and fault.foreign:
            raise fault.error()
        faults += [fault] if fault else []
    faults += contradictions(folder, ledger.repeated)
    told = []
    for place in filter(_mends, record_files(folder)):
        own = {fault.number: fault.reason for fault in faults if fault.place == place}
        _cut_partial_line(place)
        if own:
            side = place.with_suffix(".damaged")
            _move_lines(place, side, set(own))
            number, reason = min(own.items())
            count = "1 damaged line" if len(own) == 1 else f"{len(own)} damaged lines"
            told.append(
                f"{count} of {str(place)!r}, first line {number} ({reason}), moved to {side.name}; "
                "what was there is measured again"
            )
    marks = [ledger.done.get(measure) for measure in measures_of(manifest)]
    return told, not faults and all(mark is not None and all(mark) for mark in marks)


def repair_arrays(folder: Path, manifest: Mapping[str, Any]) -> tuple[list[str], tuple[str, ...]]:
    """Rename damaged files of arrays.

    Args:
        folder: The run folder.
        manifest: Of the run.

    Returns:
        A line per file, and the names of all arrays that were ever damaged or are missing, which
        may lack rows.
    """
    told = []
    owners = {place: number for place, _, number in array_files(folder)}
    for place, reason in array_faults(folder):
        if not _ours(owners.get(place, 0)):
            continue
        if place.exists():
            place.replace(place.with_name(f"{place.name}.damaged"))
        told.append(f"{reason.partition('; repeat')[0]}; it is computed again")
    ending = re.compile(r"(\.\d+)?\.npz\.damaged$")
    spoiled = [ending.sub("", place.name) for place in folder.glob("arrays/*.damaged")]
    there = {name for _, name, _ in array_files(folder)}
    missing = set(manifest.get("arrays") or ()) - there
    return told, tuple(sorted({*spoiled, *missing}))


def _parsed(line: bytes) -> tuple[dict[str, Any], str]:
    return parsed_line(line, checked=False)


def _mends(place: Path) -> bool:
    match = re.fullmatch(r"records-(\d+)\.jsonl", place.name)
    return _ours(int(match[1]) if match else 0)


def _ours(number: int) -> bool:
    # Files of processes that are no more are the first one's to mend.
    return number == rank() or (rank() == 0 and number >= rank_count())


def _cut_partial_line(place: Path) -> None:
    content = place.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with place.open("r+b") as stream:
            stream.truncate(whole)


def _move_lines(place: Path, side: Path, numbers: set[int]) -> None:
    # The damaged ones are on the disk before the file without them takes the place of the old one.
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    with side.open("ab") as away, temporary.open("wb") as stay:
        for number, line in numbered_lines(place):
            (away if number in numbers else stay).write(line)
        for stream in (away, stay):
            stream.flush()
            os.fsync(stream.fileno())
    temporary.replace(place)
