"""Read and write the lines of a run's records, and say what a run lets them be.

A line is one JSON object. Its last field, `crc`, is the CRC-32 of the line without that field, so
that a changed line is found; version 0.1 wrote none. What is wrong with a line is either damage,
which `--resume` sets aside and computes again, or that it belongs to another run, which is refused.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from robustcl.core.errors import RunError
from robustcl.core.files import open_file
from robustcl.records.kinds import CERTIFIED_BALL

OLD_SCHEMA = 1  # without checksums
Key = tuple[str, int, str]
Measure = tuple[str, str]  # kind and method
SELF_TIMED = ("seconds", "forwards", "stage_seconds", "session")  # differ when measured twice
_CURE = "repeat the command of the run with --resume, which sets it aside and computes it again"
AWAY = "move it out of the folder"
_LONGEST = 64_000_000  # bytes of a line
_TAIL = b',"crc":"'
_LENGTH = len(_TAIL) + 8 + len(b'"}')


@dataclass(frozen=True)
class Terms:
    """Say what the manifest of a run lets its records be.

    Args:
        config: Hash of the run's configuration.
        count: Images of the run; None where the manifest does not say.
        measures: Every kind and method; None where the manifest does not say.
        eps: The budgets of the attacks; None where the manifest does not say.
        classes: Number of classes; None where the manifest does not say.
        checked: Whether every line has its checksum.
    """

    config: str
    count: int | None
    measures: frozenset[Measure] | None
    eps: list[float] | None
    classes: int | None
    checked: bool


@dataclass(frozen=True)
class Fault:
    """Say what is wrong with a line.

    Args:
        place: The file.
        number: Of the line, from 1.
        reason: What is wrong.
        foreign: Whether the line is whole and belongs to another run.
    """

    place: Path
    number: int
    reason: str
    foreign: bool = False

    def error(self) -> RunError:
        """Spell the refusal.

        Returns:
            The exception.
        """
        where = f"line {self.number} of {str(self.place)!r}"
        if self.foreign:
            return RunError(
                f"{where} belongs to another run: {self.reason}; move that file out of the folder"
            )
        return RunError(f"{where} is damaged: {self.reason}; {_CURE}")


def terms_of(manifest: Mapping[str, Any]) -> Terms:
    """Read from a manifest what its records may be.

    Args:
        manifest: Of a run.

    Returns:
        The terms.
    """
    config = manifest.get("config", {})
    count = config.get("num_examples", manifest.get("num_examples"))
    eps = config.get("eps")
    return Terms(
        config=str(manifest.get("config_hash", "")),
        count=None if count is None else int(count),
        measures=frozenset(measures_of(manifest)) if "methods" in config else None,
        eps=[float(budget) for budget in eps] if isinstance(eps, list) else None,
        classes=len(manifest.get("class_names") or ()) or None,
        checked=manifest.get("schema") != OLD_SCHEMA,
    )


def measures_of(manifest: Mapping[str, Any]) -> list[Measure]:
    """Name every kind and method of which an image has a record, once its run is complete.

    Args:
        manifest: Of a run.

    Returns:
        Kinds and methods.
    """
    config = manifest.get("config", {})
    return [
        ("clean", "clean"),
        *(("certificate", str(text)) for text in config.get("methods") or ()),
        *((("attack", CERTIFIED_BALL),) if config.get("test_certificates") else ()),
        *(("attack", str(text)) for text in config.get("attacks") or ()),
    ]


def record_line(record: Mapping[str, Any]) -> bytes:
    """Spell a record with its checksum.

    Args:
        record: The record; numbers that are not finite are written as null.

    Returns:
        The line, with its end.
    """
    body = orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY)
    return b'%b,"crc":"%08x"}\n' % (body[:-1], zlib.crc32(body))


def parsed_line(line: bytes, *, checked: bool) -> tuple[dict[str, Any], str]:
    """Read a line and compare its checksum.

    Args:
        line: The line, with or without its end.
        checked: Whether a line without a checksum is damaged.

    Returns:
        The record without its checksum, and what is wrong; '' where nothing is.
    """
    line = line.rstrip(b"\r\n")
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return {}, f"it is not JSON ({error})"
    if type(record) is not dict:
        return {}, "it is no JSON object"
    crc = record.pop("crc", None)
    if crc is None:
        return record, "it has no checksum" if checked else ""
    body, tail = line[:-_LENGTH], line[-_LENGTH:]
    known = b'%b%08x"}' % (_TAIL, zlib.crc32(b"}", zlib.crc32(body)))
    return record, "" if tail == known else "it was changed after it was written"


def record_files(folder: Path) -> list[Path]:
    """Name the files of records.

    Args:
        folder: The run folder.

    Returns:
        Those of all ranks, in order.
    """
    return sorted(folder.glob("records-*.jsonl"))


def numbered_lines(place: Path) -> Iterator[tuple[int, bytes]]:
    """Read the lines of a file.

    Args:
        place: The file.

    Yields:
        Number and line.

    Raises:
        RunError: When the file cannot be read, is a pipe or a device, or has a line that no record
            has.
    """
    try:
        with open_file(place, cure=AWAY, error=RunError) as stream:
            for number, line in enumerate(
                iter(lambda: stream.readline(_LONGEST + 1), b""), start=1
            ):
                if len(line) > _LONGEST:
                    raise RunError(
                        f"line {number} of {str(place)!r} has more than {_LONGEST:,} bytes, which "
                        f"no record has; {AWAY}"
                    )
                yield number, line
    except OSError as error:
        raise RunError(f"{str(place)!r} cannot be read ({error.strerror}); {AWAY}") from error
