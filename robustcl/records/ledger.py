"""Check every record against its run and against the other records, and know which there are."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from robustcl.records.kinds import KINDS, record_check
from robustcl.records.lines import (
    SELF_TIMED,
    Fault,
    Key,
    Measure,
    Terms,
    numbered_lines,
    parsed_line,
    record_files,
)


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
            index = record.get("index")
            if wrong or type(index) is not int:
                continue
            key = str(record.get("kind")), index, str(record.get("method"))
            if key not in wanted:
                continue
            reason = f"another record of image {index} by {key[2]} contradicts it"
            plain = {name: value for name, value in record.items() if name not in SELF_TIMED}
            said.setdefault(key, []).append((Fault(place, number, reason), plain))
    return [
        fault
        for lines in said.values()
        if any(plain != lines[0][1] for _, plain in lines)
        for fault, _ in lines
    ]
