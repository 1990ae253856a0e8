"""Read a run folder: a manifest, JSON lines, and arrays beside them.

Schema 2. `manifest.json` states the run; `records-<rank>.jsonl` holds one object per example and
method, flushed per chunk, so that a run that is killed leaves whole records and can be resumed.
Fields and their types are declared in `record_kinds`, and every reader checks them:

* every record: `kind`, `index`, `method`, `config` (hash of the run), `label`, `predicted`,
  `seconds` and `forwards` (time, and forward passes through the encoder: where an attack counts its
  own, those of the image, else the batch's, padding included, shared equally; bounds that are
  propagated through the layers are no passes), `session` (number of the entry of the manifest's
  `sessions` that made it) and `crc` (see `record_lines`);
* kind `clean`: `margin` (score of the predicted class less the best other, >= 0); where scores are
  not finite, as at an embedding of 0, the model abstains: `predicted` is -1 and `margin` null. Such
  an image is wrong, and it is not attacked: its attack records have the class -1 and no radius;
* kind `certificate`: `norm`, `guarantee`, `subject`, `radius`, `other class` (-1: none);
  `predicted` is the certificate's own (-1: abstained); `by` names the method that won where
  several were combined;
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

`violations/` holds a reproducer of each violation (see `robustcl.evaluation.reproducer`).

`flags` of the manifest holds what checks of the model raised before it was attacked: `name`,
`sentence`, `images` (indices; empty where the model as a whole is meant) and `rule`.

`prefixes` of the manifest of a run within minutes says by method on how many of the first images it
has ended; what lies beyond is in work, and is left out by every reader.

`arrays/` holds what figures need besides: `embeddings.npz` (of the first images), `triples.npz`,
`flagged.npz` and `curves-<attack>.npz`; further ranks write `NAME.<rank>.npz` beside them. Radii
are in pixel units of images in [0, 1].

The manifest has a `checksum` of its other entries, its `config` hashes to `config_hash`, and
`sessions` lists every session with its versions, its device and the images it measured. Schema 1
had no checksums and no sessions; it is read as far as it goes, and `Run.notes` says so. Every
record of either has its `config`.
"""

# pandas annotates results as unions (Series | DataFrame | ...) that no call narrows.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportOperatorIssue=false, reportIndexIssue=false

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustcl.core.errors import RunError
from robustcl.core.lazy import lazily
from robustcl.records.json_file import CHECKSUM, read_sealed
from robustcl.records.kinds import KINDS, field_names
from robustcl.records.ledger import Ledger, checked_lines, contradictions
from robustcl.records.lines import OLD_SCHEMA, measures_of, record_files, terms_of
from robustcl.records.manifest_file import check_manifest
from robustcl.records.sessions import session_notes

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazily("pandas")

SCHEMA = 2
_CHUNK = 10_000  # records that are turned into tables at once
MANIFEST_CURE = "repeat the command of the run with --resume, which writes it again"
_COLUMNS = {kind: field_names(kind) for kind in KINDS}


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
        notes: Sentences about where the records come from, which a reader should know.
    """

    manifest: dict[str, Any]
    clean: pd.DataFrame
    certificates: pd.DataFrame
    attacks: pd.DataFrame
    folder: Path
    notes: tuple[str, ...] = ()


def config_hash(config: Mapping[str, Any]) -> str:
    """Hash what determines the records of a run.

    Args:
        config: Plain values.

    Returns:
        16 hexadecimal digits.
    """
    text = json.dumps(config, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_run(folder: str | Path) -> Run:
    """Read a run folder; files of several ranks are merged.

    Args:
        folder: The run folder.

    Returns:
        The run, every table sorted by method and index, each key once.

    Raises:
        RunError: When the folder holds no run, or one that this version cannot read, or a record
            that is damaged or of another run, or it is said to be complete and lacks records.
    """
    place = Path(folder)
    manifest = read_manifest(place)
    kind = "suite" if manifest.get("suite") is not None else manifest.get("kind")
    if kind is not None:
        raise RunError(f"{str(place)!r} is a {kind}, no run; give the folder of a run")
    ledger = Ledger(terms_of(manifest))
    run = _within_prefixes(run_of(place, manifest, _sound(place, manifest, ledger)))
    for fault in contradictions(place, ledger.repeated):
        raise fault.error()
    if manifest.get("complete"):
        _check_complete(place, manifest, ledger)
    told = (str(note) for note in manifest.get("data_notes") or ())
    return replace(run, notes=(*told, *_age_notes(place, manifest), *session_notes(manifest)))


def read_lines(folder: Path) -> Iterator[dict[str, Any]]:
    """Read the records of all ranks one by one, leaving out a last line that was cut.

    Args:
        folder: The run folder.

    Yields:
        The records in the order of their files; none of a folder without.

    Raises:
        RunError: When a record is damaged or of another run.
    """
    if not record_files(folder):
        return
    manifest = read_manifest(folder)
    yield from _sound(folder, manifest, Ledger(terms_of(manifest)))


def _sound(folder: Path, manifest: Mapping[str, Any], ledger: Ledger) -> Iterator[dict[str, Any]]:
    checked = manifest.get("schema") != OLD_SCHEMA
    for record, fault in checked_lines(folder, ledger, checked=checked):
        if fault:
            raise fault.error()
        yield record


def _check_complete(folder: Path, manifest: Mapping[str, Any], ledger: Ledger) -> None:
    count = terms_of(manifest).count
    prefixes = manifest.get("prefixes") or {}
    for kind, method in measures_of(manifest) if count else ():
        marks = ledger.done.get((kind, method), bytearray(count or 0))
        marks = marks[: prefixes.get(method, count)]
        if not all(marks):
            raise RunError(
                f"{str(folder)!r} is said to be complete and lacks {marks.count(0)} records, first "
                f"that of image {marks.find(0)} by {method}; repeat the command of the run with "
                "--resume, which computes them"
            )


def _within_prefixes(run: Run) -> Run:
    # Of a run within minutes, each method counts on the first images on which it has ended.
    prefixes = run.manifest.get("prefixes") or {}
    if not prefixes:
        return run

    def kept(table: pd.DataFrame) -> pd.DataFrame:
        ends = table["method"].map(lambda name: prefixes.get(name, np.inf))
        return table[table["index"] < ends].reset_index(drop=True)

    return replace(run, clean=kept(run.clean), certificates=kept(run.certificates),
                   attacks=kept(run.attacks))  # fmt: skip


def _age_notes(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    if manifest.get("schema") != OLD_SCHEMA or not record_files(folder):
        return []
    version = (manifest.get("versions") or {}).get("robustcl", "an older version")
    return [
        f"The run was begun by robustcl {version}, which wrote no checksums: a number that was "
        "changed in its files since would not be noticed."
    ]


def run_of(folder: Path, manifest: dict[str, Any], records: Iterable[Mapping[str, Any]]) -> Run:
    """Put records into tables, a chunk at a time, so that no list of all is needed.

    Args:
        folder: The run folder.
        manifest: Of the run.
        records: In any order; of two with the same key the later one counts.

    Returns:
        The run, every table sorted by method and index, each key once.
    """
    parts: dict[str, list[pd.DataFrame]] = {kind: [] for kind in _COLUMNS}
    source = iter(records)
    while chunk := list(islice(source, _CHUNK)):
        for kind, columns in _COLUMNS.items():
            rows = [_both_verdicts(record) for record in chunk if record["kind"] == kind]
            if rows:
                parts[kind].append(pd.DataFrame(rows, columns=list(columns)))
    tables = {kind: _joined(parts[kind], columns) for kind, columns in _COLUMNS.items()}
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
        RunError: When there is none, or it cannot be read, or its schema is newer, or it was
            changed after it was written.
    """
    place = folder / "manifest.json"
    if not place.exists():
        raise RunError(f"{str(folder)!r} holds no run (no manifest.json); give a folder of --out")
    manifest = read_sealed(place, cure=MANIFEST_CURE)
    schema = manifest.get("schema")
    if type(schema) is not int or schema not in (OLD_SCHEMA, SCHEMA):
        raise RunError(
            f"{str(place)!r} has schema {str(schema)[:60]!r}, this version reads {OLD_SCHEMA} and "
            f"{SCHEMA}; install the version named there"
        )
    if schema == SCHEMA and CHECKSUM not in manifest:
        raise RunError(f"{str(place)!r} has lost its checksum; {MANIFEST_CURE}")
    config, known = manifest.get("config"), manifest.get("config_hash")
    if not isinstance(config, dict) or known != config_hash(config):
        raise RunError(
            f"{str(place)!r} was changed after it was written: its config does not have the hash "
            f"{str(known)[:60]!r}; {MANIFEST_CURE}"
        )
    check_manifest(manifest, what=repr(str(place)), cure=MANIFEST_CURE)
    return manifest


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
