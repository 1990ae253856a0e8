"""Read the lines of a run's records, each checked against the run that it stands in.

A line is one JSON object. Its last field, `crc`, is the CRC-32 of the line without that field, so
that a changed line is found; version 0.1 wrote none. What is wrong with a line is either damage,
which `--resume` sets aside and computes again, or that it belongs to another run, which is refused.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from robustcl.errors import RunError
from robustcl.runs.record_kinds import CERTIFIED_BALL, KINDS, record_check

OLD_SCHEMA = 1  # without checksums
Key = tuple[str, int, str]
Measure = tuple[str, str]  # kind and method
SELF_TIMED = ("seconds", "forwards", "stage_seconds", "session")  # differ when measured twice
CURE = "repeat the command of the run with --resume, which sets it aside and computes it again"
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
        return RunError(f"{where} is damaged: {self.reason}; {CURE}")


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
        eps=None if eps is None else [float(budget) for budget in eps],
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
        RunError: When the file cannot be read.
    """
    try:
        with place.open("rb") as stream:
            yield from enumerate(stream, start=1)
    except OSError as error:
        raise RunError(
            f"{str(place)!r} cannot be read ({error.strerror}); move it out of the folder"
        ) from error


class Ledger:
    """Check record after record of a run, and remember which images have which.

    Attributes:
        done: By kind and method, one byte per image, 1 where there is a record.
        repeated: Keys of which there are several records.
    """

    def __init__(self, terms: Terms, labels: Sequence[int] | None = None) -> None:
        """Begin with none.

        Args:
            terms: What records may be.
            labels: Of the data set; None where it is not at hand, and records are compared with
                each other.
        """
        self.done: dict[Measure, bytearray] = {}
        self.repeated: set[Key] = set()
        self._terms = terms
        self._labels: dict[int, int] = {} if labels is None else dict(enumerate(labels))
        self._source = "the label of another record" if labels is None else "that of the data"
        self._checks = {kind: record_check(kind) for kind in KINDS}

    def foreign(self, record: Mapping[str, Any]) -> str:
        """Tell whether a whole line belongs to another run.

        Args:
            record: The record.

        Returns:
            Which; '' where it belongs to this one.
        """
        found = record.get("config")
        if found == self._terms.config or type(found) is not str:
            return ""
        return f"it has the configuration {found!r}, this run has {self._terms.config!r}"

    def enter(self, record: Mapping[str, Any]) -> str:
        """Check a record and remember it.

        Args:
            record: The record, of this run.

        Returns:
            What is wrong; '' where nothing is.
        """
        kind = record.get("kind")
        check = self._checks.get(kind) if type(kind) is str else None
        if check is None:
            return f"its kind is {kind!r}, none of {', '.join(KINDS)}"
        wrong = check(record)
        if wrong:
            return wrong
        terms, index = self._terms, record["index"]
        measure = record["kind"], record["method"]
        marks = self.done.get(measure)
        if marks is None:
            if terms.measures is not None and measure not in terms.measures:
                return f"the run has no {measure[0]} {measure[1]!r}"
            marks = self.done[measure] = bytearray(terms.count or 0)
        if index >= len(marks):
            if terms.count is not None:
                return f"its index is {index}, and the run has {terms.count} images"
            marks.extend(bytes(2 * index + 1 - len(marks)))
        label = record["label"]
        if self._labels.setdefault(index, label) != label:
            return f"its label is {label}, {self._source} is {self._labels[index]}"
        if terms.classes is not None and max(label, record["predicted"]) >= terms.classes:
            return (
                f"its label is {label} and its predicted {record['predicted']}, and the run has "
                f"{terms.classes} classes"
            )
        eps = record.get("eps")
        if eps and eps != terms.eps and terms.eps is not None:
            return f"its eps are {eps}, those of the run {terms.eps}"
        if marks[index]:
            self.repeated.add((measure[0], index, measure[1]))
        marks[index] = 1
        return ""


def checked_lines(
    folder: Path, ledger: Ledger, *, checked: bool
) -> Iterator[tuple[dict[str, Any], Fault | None]]:
    """Read the records of all ranks one by one, leaving out a last line that was cut.

    Other processes may go on writing meanwhile.

    Args:
        folder: The run folder.
        ledger: Enters them.
        checked: Whether a line without a checksum is damaged.

    Yields:
        Each record in the order of the files, and what is wrong with its line.

    Raises:
        RunError: When a file cannot be read.
    """
    for place in record_files(folder):
        for number, line in numbered_lines(place):
            record, wrong = parsed_line(line, checked=checked)
            if wrong and not line.endswith(b"\n"):
                break  # the process was killed as it wrote
            other = "" if wrong else ledger.foreign(record)
            wrong = wrong or other or ledger.enter(record)
            fault = Fault(place, number, wrong, foreign=bool(other)) if wrong else None
            yield record, fault


def contradictions(folder: Path, repeated: Iterable[Key]) -> list[Fault]:
    """Find records of the same image and method that say different things.

    Args:
        folder: The run folder.
        repeated: Keys of which there are several records.

    Returns:
        Every line of a key that has two different ones; none of keys whose records agree but for
        their time.
    """
    wanted = set(repeated)
    if not wanted:
        return []
    said: dict[Key, list[tuple[Fault, dict[str, Any]]]] = {}
    for place in record_files(folder):
        for number, line in numbered_lines(place):
            record, wrong = parsed_line(line, checked=False)
            key = str(record.get("kind")), record.get("index"), str(record.get("method"))
            if wrong or type(key[1]) is not int or key not in wanted:
                continue
            reason = f"another record of image {key[1]} by {key[2]} contradicts it"
            plain = {name: value for name, value in record.items() if name not in SELF_TIMED}
            said.setdefault(key, []).append((Fault(place, number, reason), plain))
    return [
        fault
        for lines in said.values()
        if any(plain != lines[0][1] for _, plain in lines)
        for fault, _ in lines
    ]
