"""Keep in cell.json how a cell ended."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from robustcl.auditing.manifest import device_name, package_versions
from robustcl.commands.options import say
from robustcl.errors import RunError
from robustcl.report.suite_folder import read_cell
from robustcl.runs.json_file import write_sealed
from robustcl.runs.records import read_manifest

Status = Literal["done", "failed", "skipped"]


@dataclass(frozen=True)
class CellState:
    """Say how a cell ended.

    Args:
        cell: Its folder.
        kind: As in `Cell`.
        status: 'skipped' where what it needs is not installed.
        reason: Why it failed or was skipped.
        seconds: Time of the session that ended it.
        about: model, data, seed, norm, peer: what tables name it by.
        metrics: What was measured, by name.
        left_out: Methods that do not treat the model, with the reason.
        rows: Of a table, for a calibration or a peer.
    """

    cell: str
    kind: str
    status: Status
    reason: str = ""
    seconds: float = 0.0
    about: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)


def save_state(folder: Path, state: CellState, device: str = "cpu") -> None:
    """Write cell.json, bound to the suite.

    Args:
        folder: Of the suite, with its manifest.
        state: Of the cell.
        device: Where it was computed.
    """
    bound = {
        "config_hash": read_manifest(folder)["config_hash"],
        "versions": package_versions(),
        "device": device_name(device),
    }
    write_sealed(folder / state.cell / "cell.json", {**asdict(state), **bound})


def load_state(folder: Path, cell: str) -> CellState | None:
    """Read cell.json; what is damaged is named, and counts as not ended.

    Args:
        folder: Of the suite.
        cell: Folder of the cell.

    Returns:
        How it ended; None where it has not.
    """
    try:
        found = read_cell(folder, cell, read_manifest(folder))
    except RunError as error:
        say(f"{str(error).partition('; repeat')[0]}; the cell is run again")
        return None
    return None if found is None else CellState(**found)
