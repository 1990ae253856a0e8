"""Set aside what is damaged in a run folder, so that a session can compute it again.

Nothing that can be read is thrown away: damaged lines of `records-N.jsonl` go to
`records-N.damaged`, a damaged file of arrays gets the ending `.damaged`, and a damaged manifest
becomes `manifest.damaged.json`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustcl.core.errors import RunError
from robustcl.core.output_folder import OutputFolder
from robustcl.records.arrays import array_faults, array_files, written_for
from robustcl.records.json_file import write_sealed
from robustcl.records.ledger import Ledger, checked_lines, contradictions
from robustcl.records.lines import (
    OLD_SCHEMA,
    Fault,
    measures_of,
    numbered_lines,
    parsed_line,
    record_files,
    terms_of,
)
from robustcl.records.ranks import rank, rank_count
from robustcl.records.reading import read_manifest

_BLOCK = 1 << 16  # bytes
MANIFEST = "manifest.json"


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
        output, kept = OutputFolder(folder), place.with_name("manifest.damaged.json")
        output.adopt()  # what else is there has just been seen to be of this run
        if place.exists():
            kept = folder / output.set_aside(place.name, kept.name)
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
        OutputFolder(folder).adopt(place.name)  # perhaps copied here, but of this run
        own = {fault.number: fault.reason for fault in faults if fault.place == place}
        _cut_partial_line(folder, place)
        if own:
            side = place.with_suffix(".damaged")
            _move_lines(folder, place.name, side.name, set(own))
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
    told, faults = [], array_faults(folder)
    owners = {place: number for place, _, number in array_files(folder)}
    sound = owners.keys() - {place for place, _ in faults}
    OutputFolder(folder).adopt(*(place.relative_to(folder).as_posix() for place in sound), MANIFEST)
    for place, reason in faults:
        if not _ours(owners.get(place, 0)):
            continue
        if place.exists():
            name = place.relative_to(folder).as_posix()
            OutputFolder(folder).set_aside(name, f"{name}.damaged")
        told.append(f"{reason.partition('; repeat')[0]}; it is computed again")
    ending = re.compile(r"(\.\d+)?\.npz\.damaged(\.\d+)?$")
    spoiled = [ending.sub("", place.name) for place in folder.glob("arrays/*.npz.damaged*")]
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


def _cut_partial_line(folder: Path, place: Path) -> None:
    # Read from its end, since a file of records may be long.
    size = place.stat().st_size
    whole, end = size, size
    with place.open("rb") as stream:
        while end:
            start = max(0, end - _BLOCK)
            stream.seek(start)
            found = stream.read(end - start).rfind(b"\n")
            whole = start + found + 1 if found >= 0 else start
            if found >= 0:
                break
            end = start
    if whole < size:
        OutputFolder(folder).cut(place.name, whole)


def _move_lines(folder: Path, name: str, side: str, numbers: set[int]) -> None:
    # The damaged ones are on the disk before the file without them takes the place of the old one.
    output, place = OutputFolder(folder), folder / name
    output.append(side, b"".join(line for n, line in numbered_lines(place) if n in numbers))
    output.sync(side)
    with output.writing(name) as stay:
        for number, line in numbered_lines(place):
            if number not in numbers:
                stay.write(line)
