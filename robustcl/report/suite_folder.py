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
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta

from robustcl.core.errors import RunError
from robustcl.core.schema import parse
from robustcl.records.json_file import CHECKSUM, read_sealed
from robustcl.records.lines import OLD_SCHEMA
from robustcl.records.reading import read_manifest
from robustcl.records.sessions import session_notes

Kind = Literal["model", "audit", "calibration", "study", "peer"]
Status = Literal["done", "failed", "skipped"]
STATUSES: tuple[Status, ...] = get_args(Status)
Plain = str | int | float | bool | None
BOUND = ("config_hash", "versions", "device", CHECKSUM)  # of newer files
_CURE = "repeat the command of the suite with --resume, which runs the cell again"

CALIBRATED = {"corruption", "severity", "accuracy", "nll", "calibration_error"}
MODEL_FAILED = "its model failed"  # how the reason of a cell begins that needs one


@dataclass(frozen=True)
class CellState:
    """Say how a cell ended, as cell.json does.

    Args:
        cell: Its folder.
        kind: As in `robustcl.studies.grid`.
        status: 'skipped' where what it needs is not installed.
        reason: Why it failed or was skipped.
        seconds: Time of the session that ended it.
        about: model, data, seed, norm, peer: what tables name it by.
        metrics: What was measured, by name.
        left_out: Methods that do not treat the model, with the reason.
        rows: Of a table, for a calibration or a peer.
    """

    cell: str
    kind: Kind
    status: Status
    reason: str = ""
    seconds: Annotated[float, Meta(ge=0.0)] = 0.0
    about: dict[str, Plain] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Plain | list[Plain]]] = field(default_factory=list)


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
    if "suite" not in manifest:
        raise RunError(f"{str(folder)!r} is not the folder of a suite; give one of: robustcl bench")
    found = (read_cell(folder, str(cell), manifest) for cell in manifest.get("cells") or ())
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
    if not place.exists():
        return None
    content = read_sealed(place, cure=_CURE, required=not old)
    known, plain = content.get("config_hash"), {k: v for k, v in content.items() if k not in BOUND}
    if known != manifest["config_hash"] and not (old and known is None):
        raise RunError(
            f"{str(place)!r} belongs to another suite (configuration {known!r}, this one has "
            f"{manifest['config_hash']!r}); {_CURE}"
        )
    found = parse(
        CellState,
        plain,
        what=repr(str(place)),
        error=RunError,
        cure=_CURE,
        any_number=("metrics", "rows"),  # what is measured may be infinite
    )
    wrong = _contradiction(found, plain, cell)
    if wrong:
        raise RunError(f"{str(place)!r} is not usable: {wrong}; {_CURE}")
    return plain


def _contradiction(found: CellState, plain: Mapping[str, Any], cell: str) -> str:
    # What no single field says.
    lacking = [entry.name for entry in fields(CellState) if entry.name not in plain]
    if lacking:
        return f"field {lacking[0]} is missing"
    if found.cell != cell:
        return f"it is about {found.cell[:60]!r}"
    wanted = ["model", "data", "seed"] + ["norm"] * (found.kind in ("audit", "study"))
    lacking = [name for name in wanted if name not in found.about]
    if lacking and found.status == "done":
        return f"field about has no {lacking[0]}"
    if found.kind == "calibration":
        for row in found.rows:
            ends = row.get("interval95", [0.0, 0.0])
            if not row.keys() >= CALIBRATED or not isinstance(ends, list) or len(ends) != 2:
                return f"field rows has one without {', '.join(sorted(CALIBRATED))}"
    return ""
