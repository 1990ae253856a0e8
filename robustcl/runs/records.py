"""Read a run folder: a manifest, JSON lines, and arrays beside them.

Schema 1. `manifest.json` states the run; `records-<rank>.jsonl` holds one object per example and
method, flushed per chunk, so that a run that is killed leaves whole records and can be resumed:

* every record: `kind`, `index`, `method`, `config` (hash of the run), `label`, `predicted`,
  `seconds` and `forwards` (time, and forward passes through the encoder: where an attack counts its
  own, those of the image, else the batch's, padding included, shared equally; bounds that are
  propagated through the layers are no passes);
* kind `clean`: `margin` (score of the predicted class less the best other, >= 0); where scores are
  not finite, as at an embedding of 0, the model abstains: `predicted` is -1 and `margin` null. Such
  an image is wrong, and it is not attacked: its attack records have the class -1 and no radius;
* kind `certificate`: `norm`, `guarantee`, `subject`, `radius`, `rival` (-1: none); `predicted` is
  the certificate's own (-1: abstained); `by` names the method that won where several were combined;
* kind `attack`: `norm`, `subject`, `eps` (the grid), `radius` (the norm at which a float64 copy is
  fooled beyond its own rounding; null: none up to the largest eps), `deployed` (that at which the
  model itself was; absent in older runs, where `radius` stands for both), `gradients`, and their
  parts by `stages` (`stage_seconds`: likewise); `failed` is the largest eps at which the attack
  itself found nothing (0: none); `predicted` is the class to be left; `in_float64` is false where
  the model itself was fooled and no point holds in float64; `note` where a part was left out; of a
  screened attack also `decided` (the stage, see `attacks.screened`), and what the reference alone
  would have taken at least, `reference_forwards` and `reference_gradients`. The method
  `certified_ball` is `attacks.surface` within the largest deterministic radius of the image, `ball`
  (0: none, so no attack), which `ball_by` claims; its points lie strictly within, in or out of
  [0, 1], so what has a radius is a violation. It has no grid, `eps` is empty, and it enters no
  curve.

`violations/` holds a reproducer of each violation (see `robustcl.auditing.reproducer`).

`flags` of the manifest holds what checks of the model raised before it was attacked: `name`,
`sentence`, `images` (indices; empty where the model as a whole is meant) and `rule`.

`arrays/` holds what figures need besides: `embeddings.npz` (of the first images), `triples.npz`,
`flagged.npz` and `curves-<attack>.npz`; further ranks write `NAME.<rank>.npz` beside them. Radii
are in pixel units of images in [0, 1].
"""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd

from robustcl.errors import RunError
from robustcl.runs.ranks import rank

SCHEMA = 1
CHUNK = 10_000  # records that are turned into tables at once
CERTIFIED_BALL = "certified_ball"
Key = tuple[str, int, str]
EVERY = ("kind", "index", "method", "config", "label", "predicted", "seconds", "forwards")
COLUMNS = {
    "clean": (*EVERY, "margin"),
    "certificate": (*EVERY, "norm", "guarantee", "subject", "radius", "rival", "by"),
    "attack": (
        *(*EVERY, "norm", "subject", "eps", "radius", "deployed", "gradients", "note"),
        *("in_float64", "failed", "stages", "stage_seconds", "decided"),
        *("reference_forwards", "reference_gradients", "ball", "ball_by"),
    ),
}


@dataclass(frozen=True, eq=False)
class Run:
    """Hold what a run folder says.

    Args:
        manifest: The content of manifest.json.
        clean: One row per example.
        certificates: One row per example and certificate.
        attacks: One row per example and attack; `radius` and `deployed` are infinite where none
            was found.
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
    return run_of(place, read_manifest(place), read_lines(place))


def run_of(folder: Path, manifest: dict[str, Any], records: Iterable[Mapping[str, Any]]) -> Run:
    """Put records into tables, a chunk at a time, so that no list of all is needed.

    Args:
        folder: The run folder.
        manifest: Of the run.
        records: In any order; of two with the same key the later one counts.

    Returns:
        The run, every table sorted by method and index, each key once.
    """
    parts: dict[str, list[pd.DataFrame]] = {kind: [] for kind in COLUMNS}
    source = iter(records)
    while chunk := list(islice(source, CHUNK)):
        for kind, columns in COLUMNS.items():
            rows = [_both_verdicts(record) for record in chunk if record["kind"] == kind]
            if rows:
                parts[kind].append(pd.DataFrame(rows, columns=list(columns)))
    tables = {kind: _joined(parts[kind], columns) for kind, columns in COLUMNS.items()}
    attacks = tables["attack"]
    for column in ("radius", "deployed"):
        attacks[column] = pd.to_numeric(attacks[column]).astype(float).fillna(np.inf)
    return Run(manifest, tables["clean"], tables["certificate"], attacks, folder)


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


def read_lines(folder: Path) -> Iterator[dict[str, Any]]:
    """Read the records of all ranks one by one, leaving out a last line that was cut.

    Other processes may go on writing meanwhile.

    Args:
        folder: The run folder.

    Yields:
        The records in the order of their files.

    Raises:
        RunError: When a line that is not the last one is damaged.
    """
    for place in sorted(folder.glob("records-*.jsonl")):
        with place.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    record = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    if not line.endswith(b"\n"):
                        break
                    where = f"line {number} of {str(place)!r}"
                    raise RunError(f"{where} is damaged; remove it") from error
                yield record


def _both_verdicts(record: Mapping[str, Any]) -> Mapping[str, Any]:
    # Older attacks have one radius for both.
    if record["kind"] != "attack" or "deployed" in record:
        return record
    return {**record, "deployed": record["radius"]}


def _joined(parts: list[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    # Parts without a number in a column do not turn the numbers of the others into objects.
    whole = pd.DataFrame(columns=list(columns))
    if parts:
        filled = [part.dropna(axis=1, how="all") for part in parts]
        whole = pd.concat(filled, ignore_index=True).reindex(columns=list(columns))
    whole = whole.drop_duplicates(["index", "method"], keep="last")
    return whole.sort_values(["method", "index"], kind="stable", ignore_index=True)


def write_json(place: Path, content: Mapping[str, Any]) -> None:
    """Write JSON so that the file is either the old one or the new one.

    Args:
        place: The file.
        content: Plain values.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.{rank()}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    temporary.replace(place)
