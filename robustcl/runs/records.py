"""Write and read a run folder: a manifest, JSON lines, and arrays beside them.

Schema 1. `manifest.json` states the run; `records-<rank>.jsonl` holds one object per example and
method, flushed per chunk, so that a run that is killed leaves whole records and can be resumed:

* every record: `kind`, `index`, `method`, `config` (hash of the run), `label`, `predicted`,
  `seconds` and `forwards` (time, and forward passes through the encoder: where an attack counts its
  own, those of the image, else the batch's, padding included, shared equally; bounds that are
  propagated through the layers are no passes);
* kind `clean`: `margin` (score of the predicted class less the best other, >= 0);
* kind `certificate`: `norm`, `guarantee`, `subject`, `radius`, `rival` (-1: none); `predicted` is
  the certificate's own (-1: abstained); `by` names the method that won where several were combined;
* kind `attack`: `norm`, `subject`, `eps` (the grid), `radius` (null: none found up to the largest
  eps), `gradients`, and their parts by `stages` (`stage_seconds`: likewise); `failed` is the
  largest eps at which the attack itself found nothing (0: none); `predicted` is the class to be
  left; `in_float64` is false where the perturbed image wins by the rounding of float32 alone, which
  only a screened attack lets stand; `note` where a part was left out; of a screened attack also
  `decided` (the stage, see `attacks.screened`), and what the reference alone would have taken at
  least, `reference_forwards` and `reference_gradients`. The method `certified_ball` is
  `attacks.surface` within the largest deterministic radius of the image, `ball` (0: none, so no
  attack), which `ball_by` claims; its points lie strictly within, in or out of [0, 1], so what it
  finds is a violation. It has no grid, `eps` is empty, and it enters no curve.

`violations/` holds a reproducer of each violation (see `robustcl.auditing.reproducer`).

`flags` of the manifest holds what checks of the model raised before it was attacked: `name`,
`sentence`, `images` (indices; empty where the model as a whole is meant) and `rule`.

`arrays/` holds what figures need besides: `embeddings.npz`, `triples.npz`, `flagged.npz` and
`curves-<attack>.npz`. Radii are in pixel units of images in [0, 1].
"""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robustcl.errors import RunError

SCHEMA = 1
CERTIFIED_BALL = "certified_ball"
Key = tuple[str, int, str]
EVERY = ("kind", "index", "method", "config", "label", "predicted", "seconds", "forwards")
COLUMNS = {
    "clean": (*EVERY, "margin"),
    "certificate": (*EVERY, "norm", "guarantee", "subject", "radius", "rival", "by"),
    "attack": (
        *(*EVERY, "norm", "subject", "eps", "radius", "gradients", "note", "in_float64", "failed"),
        *("stages", "stage_seconds", "decided", "reference_forwards", "reference_gradients"),
        *("ball", "ball_by"),
    ),
}


@dataclass(frozen=True, eq=False)
class Run:
    """Hold what a run folder says.

    Args:
        manifest: The content of manifest.json.
        clean: One row per example.
        certificates: One row per example and certificate.
        attacks: One row per example and attack; `radius` is infinite where none was found.
        folder: Where it was read from.
    """

    manifest: dict[str, Any]
    clean: pd.DataFrame
    certificates: pd.DataFrame
    attacks: pd.DataFrame
    folder: Path


def config_hash(config: Mapping[str, Any]) -> str:
    """Hash what determines the records of a run.

    Args:
        config: Plain values.

    Returns:
        16 hexadecimal digits.
    """
    text = json.dumps(config, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def record_key(record: Mapping[str, Any]) -> Key:
    """Tell one record of a run from another.

    Args:
        record: A record.

    Returns:
        Its kind, index and method.
    """
    return record["kind"], record["index"], record["method"]


def start_run(folder: Path, manifest: Mapping[str, Any], *, resume: bool) -> None:
    """Make a run folder, or go on with one.

    Args:
        folder: Where the run is written.
        manifest: States the run; its `config_hash` tells one run from another.
        resume: Whether to go on with the same run where the folder holds it.

    Raises:
        RunError: When the folder holds a run and `resume` is off, or it is another run, or it
            holds files but no run.
    """
    place = folder / "manifest.json"
    if not place.exists():
        if folder.is_dir() and any(folder.glob("records-*.jsonl")):
            raise RunError(f"{str(folder)!r} has records but no manifest; give a new --out")
        (folder / "arrays").mkdir(parents=True, exist_ok=True)
        write_json(place, manifest)
        return
    if not resume:
        raise RunError(
            f"{str(folder)!r} already holds a run; add --resume to go on with it, or give a new "
            "--out"
        )
    found = read_manifest(folder)
    if found.get("config_hash") != manifest["config_hash"]:
        raise RunError(
            f"{str(folder)!r} holds another run ({_difference(found, manifest)}); give a new "
            "--out, or repeat the options of that run"
        )
    own = folder / f"records-{rank()}.jsonl"
    if own.exists():
        _cut_partial_line(own)


def append_records(folder: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Append records as whole lines and flush them to the disk.

    Args:
        folder: The run folder.
        records: What to append; infinite radii are written as null.
    """
    lines = "".join(json.dumps(_plain(record)) + "\n" for record in records)
    with (folder / f"records-{rank()}.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(lines)
        stream.flush()
        os.fsync(stream.fileno())


def finish_run(folder: Path, *, seconds: float, extra: Mapping[str, Any]) -> None:
    """Mark a run as complete in its manifest.

    Args:
        folder: The run folder.
        seconds: Time of this session, which is added to earlier sessions' time.
        extra: Further entries of the manifest.
    """
    manifest = read_manifest(folder)
    total = float(manifest.get("seconds") or 0.0) + seconds
    write_json(folder / "manifest.json", {**manifest, **extra, "seconds": total, "complete": True})


def load_run(folder: str | Path) -> Run:
    """Read a run folder; files of several ranks are merged.

    Args:
        folder: The run folder.

    Returns:
        The run, every table sorted by method and index, each key once.

    Raises:
        RunError: When the folder holds no run, or one that this version cannot read.
    """
    place = Path(folder)
    manifest = read_manifest(place)
    unique = {record_key(line): line for line in read_lines(place)}
    tables = {}
    for kind, columns in COLUMNS.items():
        rows = [line for line in unique.values() if line["kind"] == kind]
        table = pd.DataFrame(rows, columns=list(columns))
        tables[kind] = table.sort_values(["method", "index"], kind="stable", ignore_index=True)
    attacks = tables["attack"]
    attacks["radius"] = pd.to_numeric(attacks["radius"]).astype(float).fillna(np.inf)
    return Run(manifest, tables["clean"], tables["certificate"], attacks, place)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read manifest.json.

    Args:
        folder: The run folder.

    Returns:
        Its content.

    Raises:
        RunError: When there is none, or it cannot be read, or its schema is newer.
    """
    place = folder / "manifest.json"
    if not place.is_file():
        raise RunError(f"{str(folder)!r} holds no run (no manifest.json); give a folder of --out")
    try:
        manifest = json.loads(place.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RunError(f"{str(place)!r} is not JSON ({error}); the run must be repeated") from error
    if manifest.get("schema") != SCHEMA:
        raise RunError(
            f"{str(place)!r} has schema {manifest.get('schema')!r}, this version reads {SCHEMA}; "
            "install the version named there"
        )
    return manifest


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Read all records of all ranks, leaving out a last line that was cut.

    Args:
        folder: The run folder.

    Returns:
        The records in the order of their files.

    Raises:
        RunError: When a line that is not the last one is damaged.
    """
    records: list[dict[str, Any]] = []
    for place in sorted(folder.glob("records-*.jsonl")):
        lines = place.read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                if number == len(lines):
                    break
                raise RunError(f"line {number} of {str(place)!r} is damaged; remove it") from error
    return records


def write_json(place: Path, content: Mapping[str, Any]) -> None:
    """Write JSON so that the file is either the old one or the new one.

    Args:
        place: The file.
        content: Plain values.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    temporary.replace(place)


def rank() -> int:
    """Return torchrun's RANK, 0 outside of it."""
    return int(os.environ.get("RANK", "0"))


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value
        for key, value in record.items()
    }


def _cut_partial_line(place: Path) -> None:
    content = place.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with place.open("r+b") as stream:
            stream.truncate(whole)


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    before, now = found.get("config", {}), wanted.get("config", {})
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            return f"its {key} is {before.get(key)!r}, not {now.get(key)!r}"
    return "made by another version"
