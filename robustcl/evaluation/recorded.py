"""Know which records a run already has, in memory that does not grow with them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustcl.records.ledger import Ledger, checked_lines
from robustcl.records.lines import OLD_SCHEMA, Measure, terms_of


@dataclass(frozen=True, eq=False)
class Recorded:
    """Hold what is on the disk when a session begins.

    Args:
        done: By kind and method, (N,) whether the image has its record.
        begun: By chunk, the records of chunks that have some but not all.
        chunk: Images per chunk.
        sessions: By number of a session, (N,) whether it made a record of the image.
    """

    done: dict[Measure, np.ndarray]
    begun: dict[int, list[dict[str, Any]]]
    chunk: int
    sessions: dict[int, np.ndarray]

    @property
    def complete(self) -> bool:
        """Whether every image has every record."""
        return all(bool(column.all()) for column in self.done.values())

    def whole(self, rows: np.ndarray) -> bool:
        """Tell whether images have every record.

        Args:
            rows: Positions in the data set.

        Returns:
            True when nothing is left to do.
        """
        return all(bool(column[rows].all()) for column in self.done.values())

    def lacking(self, rows: np.ndarray) -> np.ndarray:
        """Tell which images lack a record.

        Args:
            rows: Positions in the data set.

        Returns:
            Those of them that do.
        """
        return rows[~np.stack([column[rows] for column in self.done.values()]).all(axis=0)]

    def lacks(self, measure: Measure, rows: np.ndarray) -> bool:
        """Tell whether an image lacks a record.

        Args:
            measure: Kind and method.
            rows: Positions in the data set.

        Returns:
            True when one of them does.
        """
        return not bool(self.done[measure][rows].all())

    def known(self, rows: np.ndarray) -> list[dict[str, Any]]:
        """Return the records of images whose chunk is begun.

        Args:
            rows: Positions in the data set, of one chunk.

        Returns:
            Their records; none of a chunk that has all or none.
        """
        wanted = set(rows.tolist())
        records = self.begun.get(int(rows[0]) // self.chunk, [])
        return [record for record in records if record["index"] in wanted]


def recorded(
    folder: Path, manifest: Mapping[str, Any], measures: Sequence[Measure], *, chunk: int
) -> Recorded:
    """Read which sound records a run folder has.

    Damaged lines count as absent: the process that wrote them sets them aside when it starts.

    Args:
        folder: The run folder.
        manifest: Of the run.
        measures: Every kind and method of the run.
        chunk: Images per chunk.

    Returns:
        What is there; two passes over the files.
    """
    count = int(manifest["num_examples"])
    done = {measure: np.zeros(count, dtype=bool) for measure in measures}
    sessions: dict[int, np.ndarray] = {}
    for record in sound_records(folder, manifest):
        done[record["kind"], record["method"]][record["index"]] = True
        number = record.get("session", 0)
        if number not in sessions:
            sessions[number] = np.zeros(count, dtype=bool)
        sessions[number][record["index"]] = True
    table = np.stack(list(done.values()))
    starts = np.arange(0, count, chunk)
    some = np.logical_or.reduceat(table.any(axis=0), starts)
    every = np.logical_and.reduceat(table.all(axis=0), starts)
    begun: dict[int, list[dict[str, Any]]] = {
        number: [] for number in np.flatnonzero(some & ~every).tolist()
    }
    if begun:
        for record in sound_records(folder, manifest):
            if record["index"] // chunk in begun:
                begun[record["index"] // chunk].append(record)
    return Recorded(done, begun, chunk, sessions)


def sound_records(folder: Path, manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Read the records of a run, leaving out damaged lines.

    Args:
        folder: The run folder.
        manifest: Of the run.

    Yields:
        The records in the order of their files.
    """
    ledger, checked = Ledger(terms_of(manifest)), manifest.get("schema") != OLD_SCHEMA
    for record, fault in checked_lines(folder, ledger, checked=checked):
        if not fault:
            yield record
