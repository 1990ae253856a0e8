"""Read the folder of a suite: manifest.json, and a cell.json in the folder of every cell.

`manifest.json` has what that of a run has, and `suite` (name), `question` and `cells` (their
folders in order). `cell.json` holds `cell` (folder), `kind` (model, audit, calibration, study or
peer), `status` (done, failed or skipped), `reason`, `seconds`, `about` (model, data, seed, norm,
peer), `metrics` by name, `left_out` (methods that do not treat the model, with the reason) and
`rows` of a calibration table or a peer. The folder of an audit is a run folder (see `records`),
that of a study is what `robustcl multiview` writes.

Both files have a checksum, and `cell.json` the `config_hash` of its suite and the `versions` and
the `device` that ended the cell; version 0.1 wrote none of these.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustcl.errors import RunError
from robustcl.runs.json_file import CHECKSUM, read_sealed
from robustcl.runs.record_lines import OLD_SCHEMA
from robustcl.runs.records import read_manifest
from robustcl.runs.sessions import session_notes

KINDS = ("model", "audit", "calibration", "study", "peer")
STATUSES = ("done", "failed", "skipped")
CELL: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("cell", "kind", "status", "reason"), str),
    "seconds": (int, float),
    **dict.fromkeys(("about", "metrics", "left_out"), dict),
    "rows": list,
}
BOUND = ("config_hash", "versions", "device", CHECKSUM)  # of newer files
CURE = "repeat the command of the suite with --resume, which runs the cell again"

MODEL_FAILED = "its model failed"  # how the reason of a cell begins that needs one


@dataclass(frozen=True, eq=False)
class SuiteRun:
    """Hold what the folder of a suite says.

    Args:
        manifest: The content of manifest.json.
        cells: The content of each cell.json there is, in the order of the manifest.
        folder: Where it was read from.
        notes: Sentences about where they come from, which a reader should know.
    """

    manifest: dict[str, Any]
    cells: tuple[dict[str, Any], ...]
    folder: Path
    notes: tuple[str, ...] = ()


def is_suite(folder: Path) -> bool:
    """Tell whether a folder is that of a suite.

    Args:
        folder: The folder, with a manifest.json.

    Returns:
        Whether it is, and not that of a run.
    """
    return "suite" in read_manifest(folder)


def load_suite_run(folder: Path) -> SuiteRun:
    """Read the folder of a suite.

    Args:
        folder: The folder.

    Returns:
        What it says.

    Raises:
        RunError: When the manifest or a cell is damaged.
    """
    manifest = read_manifest(folder)
    found = (read_cell(folder, str(cell), manifest) for cell in manifest["cells"])
    notes = session_notes(manifest)
    if manifest.get("schema") == OLD_SCHEMA:
        version = (manifest.get("versions") or {}).get("robustcl", "an older version")
        notes.append(
            f"The suite was begun by robustcl {version}, which wrote no checksums: a number that "
            "was changed in its files since would not be noticed."
        )
    return SuiteRun(manifest, tuple(filter(None, found)), folder, tuple(notes))


def read_cell(folder: Path, cell: str, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read cell.json.

    Args:
        folder: Of the suite.
        cell: Folder of the cell, in that of the suite.
        manifest: Of the suite.

    Returns:
        Its content; None where the cell has not ended.

    Raises:
        RunError: When it is damaged, or of another suite or cell.
    """
    place, old = folder / cell / "cell.json", manifest.get("schema") == OLD_SCHEMA
    if not place.is_file():
        return None
    content = read_sealed(place, cure=CURE, required=not old)
    known, plain = content.get("config_hash"), {k: v for k, v in content.items() if k not in BOUND}
    if known != manifest["config_hash"] and not (old and known is None):
        raise RunError(
            f"{str(place)!r} belongs to another suite (configuration {known!r}, this one has "
            f"{manifest['config_hash']!r}); {CURE}"
        )
    strange = sorted(plain.keys() ^ CELL.keys())
    wrong = [name for name, value in plain.items() if not isinstance(value, CELL.get(name, object))]
    if strange or wrong:
        raise RunError(f"{str(place)!r} is damaged in {(strange + wrong)[0]!r}; {CURE}")
    if plain["cell"] != cell or plain["kind"] not in KINDS or plain["status"] not in STATUSES:
        raise RunError(
            f"{str(place)!r} is about {plain['cell']!r} ({plain['kind']}, {plain['status']}); "
            f"{CURE}"
        )
    return plain
