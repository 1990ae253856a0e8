"""Keep in cell.json how a cell ended."""

from dataclasses import asdict
from pathlib import Path

from robustcl.core.errors import RunError
from robustcl.core.terminal import say
from robustcl.evaluation.manifest import device_name, package_versions
from robustcl.records.json_file import write_sealed
from robustcl.records.reading import read_manifest
from robustcl.report.suite_folder import CellState, read_cell


def save_cell(folder: Path, state: CellState, device: str = "cpu") -> None:
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


def load_cell(folder: Path, cell: str) -> CellState | None:
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
