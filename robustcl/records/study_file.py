"""Write and read the files of studies and comparisons."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustcl.core.errors import RunError
from robustcl.core.output_folder import OutputFolder
from robustcl.records.json_file import read_sealed, write_sealed
from robustcl.records.lines import OLD_SCHEMA
from robustcl.records.reading import SCHEMA, config_hash, read_manifest
from robustcl.records.sessions import session_notes
from robustcl.records.study_kinds import check_study_file

_STUDY = "study.json"
_CURE = "repeat the command of the study with --resume, which writes it again from its stages"


def is_study(folder: Path) -> bool:
    """Tell whether a folder is that of a multi-view study.

    Args:
        folder: The folder, with a manifest.json.

    Returns:
        Whether it is, and not that of a run or a suite.
    """
    return read_manifest(folder).get("kind") == "multiview"


def write_study(folder: Path, found: Mapping[str, Any]) -> None:
    """Write study.json.

    Args:
        folder: Of the study, with its manifest.
        found: Plain values.
    """
    known = read_manifest(folder)["config_hash"]
    write_sealed(folder / _STUDY, {**found, "config_hash": known})


def read_study(folder: Path) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Read what a study found.

    Args:
        folder: Of the study.

    Returns:
        The content of study.json, that of manifest.json, and sentences about where they come from.

    Raises:
        RunError: When one is missing, was changed after it was written, or study.json is of another
            study.
    """
    manifest, place = read_manifest(folder), folder / _STUDY
    if not place.exists():
        raise RunError(f"{str(folder)!r} has no {_STUDY}: the study has not ended; {_CURE}")
    old = manifest.get("schema") == OLD_SCHEMA
    study = read_sealed(place, cure=_CURE, required=not old)
    known = study.get("config_hash")
    if known != manifest["config_hash"] and not (old and known is None):
        raise RunError(
            f"{str(place)!r} belongs to another study (configuration {known!r}, this one has "
            f"{manifest['config_hash']!r}); {_CURE}"
        )
    check_study_file(study, what=repr(str(place)), cure=_CURE)
    notes = session_notes(manifest)
    if known is None:
        version = (manifest.get("versions") or {}).get("robustcl", "an older version")
        notes.append(
            f"The study was made by robustcl {version}, which wrote no checksums: a number that "
            "was changed in its files since would not be noticed."
        )
    return study, manifest, notes


def note_stage(folder: Path, name: str) -> None:
    """Write into the manifest that the present session, which is its last one, made a stage.

    Args:
        folder: Of the study.
        name: Of the stage.
    """
    if not (folder / "manifest.json").is_file():
        return
    manifest = read_manifest(folder)
    sessions = [dict(entry) for entry in manifest.get("sessions") or ()]
    if sessions:
        sessions[-1]["stages"] = [*(sessions[-1].get("stages") or ()), name]
        write_sealed(folder / "manifest.json", {**manifest, "sessions": sessions})


_KIND = "comparison"


def is_comparison(folder: Path) -> bool:
    """Tell whether a folder is that of a comparison.

    Args:
        folder: The folder, with a manifest.json.

    Returns:
        Whether it is, and not that of a run, a study or a suite.
    """
    return read_manifest(folder).get("kind") == _KIND


def start_comparison(folder: Path, runs: Mapping[str, str]) -> None:
    """Write the manifest of a comparison; an earlier one is replaced.

    Args:
        folder: Where the comparison goes.
        runs: The hash of each run's configuration, by label.

    Raises:
        RunError: When the folder is not new, empty, or that of a comparison.
    """
    OutputFolder(folder).check_start()
    if (folder / "manifest.json").exists() and not is_comparison(folder):
        raise RunError(f"{str(folder)!r} holds a run, no comparison; give another --out")
    config = {"runs": dict(runs)}
    stated = {"schema": SCHEMA, "kind": _KIND, "config": config}
    write_sealed(folder / "manifest.json", {**stated, "config_hash": config_hash(config)})
