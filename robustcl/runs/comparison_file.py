"""Mark the folder of a comparison as ours."""

from collections.abc import Mapping
from pathlib import Path

from robustcl.core.errors import RunError
from robustcl.core.output_folder import OutputFolder
from robustcl.runs.json_file import write_sealed
from robustcl.runs.records import SCHEMA, config_hash, read_manifest

KIND = "comparison"


def is_comparison(folder: Path) -> bool:
    """Tell whether a folder is that of a comparison.

    Args:
        folder: The folder, with a manifest.json.

    Returns:
        Whether it is, and not that of a run, a study or a suite.
    """
    return read_manifest(folder).get("kind") == KIND


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
    stated = {"schema": SCHEMA, "kind": KIND, "config": config}
    write_sealed(folder / "manifest.json", {**stated, "config_hash": config_hash(config)})
