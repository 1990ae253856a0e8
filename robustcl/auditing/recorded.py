"""Know which records a run already has, in memory that does not grow with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustcl.runs.records import read_lines

Measure = tuple[str, str]  # kind and method


@dataclass(frozen=True, eq=False)
class Recorded:
    """Hold what is on the disk when a session begins.

    Args:
        done: By kind and method, (N,) whether the image has its record.
        begun: By chunk, the records of chunks that have some but not all.
        chunk: Images per chunk.
    """

    done: dict[Measure, np.ndarray]
    begun: dict[int, list[dict[str, Any]]]
    chunk: int

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


def recorded(folder: Path, measures: Sequence[Measure], *, count: int, chunk: int) -> Recorded:
    """Read which records a run folder has.

    Args:
        folder: The run folder.
        measures: Every kind and method of the run.
        count: Images in all.
        chunk: Images per chunk.

    Returns:
        What is there; two passes over the files.
    """
    done = {measure: np.zeros(count, dtype=bool) for measure in measures}
    for record in read_lines(folder):
        done[record["kind"], record["method"]][record["index"]] = True
    table = np.stack(list(done.values()))
    starts = np.arange(0, count, chunk)
    some = np.logical_or.reduceat(table.any(axis=0), starts)
    every = np.logical_and.reduceat(table.all(axis=0), starts)
    begun: dict[int, list[dict[str, Any]]] = {
        number: [] for number in np.flatnonzero(some & ~every).tolist()
    }
    if begun:
        for record in read_lines(folder):
            if record["index"] // chunk in begun:
                begun[record["index"] // chunk].append(record)
    return Recorded(done, begun, chunk)
