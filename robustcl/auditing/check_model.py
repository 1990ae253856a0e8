"""Check a model before it is attacked, and keep what was seen beside the records."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustcl.attacks.checks import Flag, model_flags
from robustcl.auditing.audit import Audit
from robustcl.core.abstention import answered
from robustcl.core.batching import halving
from robustcl.core.classifier import Classifier
from robustcl.core.seeds import example_seed
from robustcl.core.terminal import say
from robustcl.core.threat import Threat
from robustcl.data.dataset import Dataset
from robustcl.runs.arrays import save_arrays
from robustcl.runs.records import read_manifest
from robustcl.runs.write_run import update_manifest

CHECKED = 32  # images that are looked at, evenly spaced, since a data set may be sorted
SHOWN = 8  # of each flag, whose pixels are kept for the report


def check_model(
    classifier: Classifier,
    dataset: Dataset,
    audit: Audit,
    folder: Path,
    *,
    device: str | torch.device = "cpu",
) -> None:
    """Raise the flags of a model: a line each on stderr, and `flags` in the manifest of the run.

    Pixels of flagged images go to `arrays/flagged.npz`. A run that is resumed repeats the lines of
    its manifest; a run without attacks is not checked, as flags are about attacks. Of several
    processes one is enough. The budget is
    the middle one of the audit.

    Args:
        classifier: The model, on the device.
        dataset: The images.
        audit: What is going to be measured.
        folder: The run folder, with a manifest.
        device: Where to compute.
    """
    if not audit.attacks:
        return
    flags = read_manifest(folder).get("flags")
    if flags is None:
        flags = halving(
            lambda size: _look(classifier, dataset, audit, size, device),
            min(CHECKED, audit.batch_size, len(dataset)),
        )
        keep_pixels(folder, dataset, flags)
        update_manifest(folder, {"flags": flags})
    for flag in flags:
        say(flag_line(flag))


def flag_line(flag: Mapping[str, Any]) -> str:
    """Spell a flag in one line.

    Args:
        flag: An entry of the manifest.

    Returns:
        Its name, its sentence and the first images.
    """
    named = ", ".join(str(index) for index in flag["images"][:SHOWN])
    more = ", …" if len(flag["images"]) > SHOWN else ""
    return f"flag {flag['name']}: {flag['sentence']}" + (f" Images {named}{more}." if named else "")


def _look(
    classifier: Classifier,
    dataset: Dataset,
    audit: Audit,
    size: int,
    device: str | torch.device,
) -> list[dict[str, Any]]:
    rows = np.linspace(0, len(dataset) - 1, size).round().astype(int)
    with torch.no_grad():
        known = answered(classifier(dataset.batch(rows).images.to(device)))
    rows = rows[known.cpu().numpy()].tolist()  # the others have no class that could be left
    if not rows:
        return []
    flags = model_flags(
        classifier,
        dataset.batch(rows).images.to(device),
        Threat(audit.norm, audit.eps[len(audit.eps) // 2]),
        seeds=[example_seed(audit.seed, row, "checks") for row in rows],
    )
    return [_entry(flag, rows) for flag in flags]


def _entry(flag: Flag, rows: Sequence[int]) -> dict[str, Any]:
    images = [rows[position] for position in flag.images]
    return {"name": flag.name, "sentence": flag.sentence, "images": images, "rule": flag.rule}


def keep_pixels(folder: Path, dataset: Dataset, flags: Sequence[Mapping[str, Any]]) -> None:
    """Keep the first flagged images of each flag, in arrays/flagged.npz.

    Args:
        folder: The run folder.
        dataset: The images.
        flags: Entries of the manifest.
    """
    shown = sorted({index for flag in flags for index in flag["images"][:SHOWN]})
    if shown:
        clean = dataset.batch(shown).images.numpy()
        save_arrays(folder, "flagged", {"index": np.array(shown), "clean": clean})
