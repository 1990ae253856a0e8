"""Look at a model before it is measured."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustcl.attacks.checks import Flag, model_flags
from robustcl.core.abstention import answered, predict
from robustcl.core.batching import fixed_size, retry_smaller
from robustcl.core.classifier import Classifier
from robustcl.core.modules import eval_mode
from robustcl.core.seeds import example_seed
from robustcl.core.special_functions import betaincinv
from robustcl.core.terminal import say
from robustcl.core.threat import Threat
from robustcl.data.dataset import Dataset
from robustcl.evaluation.config import EvaluationConfig
from robustcl.records.arrays import save_arrays
from robustcl.records.reading import read_manifest
from robustcl.records.writing import update_manifest

_CHECKED = 32  # images that are looked at, evenly spaced, since a data set may be sorted
_SHOWN = 8  # of each flag, whose pixels are kept for the report


def check_model(
    classifier: Classifier,
    dataset: Dataset,
    audit: EvaluationConfig,
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
        flags = retry_smaller(
            lambda size: _look(classifier, dataset, audit, size, device),
            min(_CHECKED, audit.batch_size, len(dataset)),
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
    named = ", ".join(str(index) for index in flag["images"][:_SHOWN])
    more = ", …" if len(flag["images"]) > _SHOWN else ""
    return f"flag {flag['name']}: {flag['sentence']}" + (f" Images {named}{more}." if named else "")


def _look(
    classifier: Classifier,
    dataset: Dataset,
    audit: EvaluationConfig,
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
    shown = sorted({index for flag in flags for index in flag["images"][:_SHOWN]})
    if shown:
        clean = dataset.batch(shown).images.numpy()
        save_arrays(folder, "flagged", {"index": np.array(shown), "clean": clean})


_MOST = 1000  # images of a first look


@dataclass(frozen=True)
class FirstLook:
    """Hold the clean accuracy of some images.

    Args:
        images: How many, at even distances in the data.
        right: How many the classifier gets right.
        seconds: Of a forward pass, per image.
    """

    images: int
    right: int
    seconds: float

    @property
    def accuracy(self) -> float:
        """Share that is right."""
        return self.right / self.images

    @property
    def interval95(self) -> tuple[float, float]:
        """Its exact 95 % interval (Clopper-Pearson)."""
        # As `runs.summary.interval95`, whose library takes longer to load than this looks.
        right, wrong = self.right, self.images - self.right
        low = float(betaincinv(right, wrong + 1, 0.025)) if right else 0.0
        return low, float(betaincinv(right + 1, wrong, 0.975)) if wrong else 1.0


def first_look(
    classifier: Classifier,
    dataset: Dataset,
    *,
    batch_size: int,
    device: str | torch.device = "cpu",
    most: int = _MOST,
) -> FirstLook:
    """Classify some images, in a second or so.

    Args:
        classifier: The model; left as it was, on the device it was on.
        dataset: Images with labels; without, none counts as right.
        batch_size: Images per model call.
        device: Where to compute.
        most: Images at most.

    Returns:
        What was found. An image whose scores are not finite counts as wrong.
    """
    home, right, seconds = classifier.encoder.mean.device, 0, 0.0
    rows = np.linspace(0, len(dataset) - 1, min(most, len(dataset))).round().astype(np.int64)
    size = min(batch_size, len(rows))
    try:
        classifier.to(device)
        with torch.no_grad(), eval_mode(classifier):
            for start in range(0, len(rows), size):
                batch = dataset.batch(rows[start : start + size]).to(device)
                begun = time.monotonic()
                scores = fixed_size(classifier, batch.images, batch_size=size)
                known = batch.labels >= 0
                right += int(((predict(scores) == batch.labels) & known).sum())
                seconds += time.monotonic() - begun
    finally:
        classifier.to(home)
    return FirstLook(len(rows), right, seconds / len(rows))


def chance_warning(look: FirstLook, *, own: float | None, classes: int) -> str | None:
    """Tell whether the accuracy is what guessing gives, though the head was good elsewhere.

    Args:
        look: On the data that is measured.
        own: Accuracy of the head on the data it was fitted for; None where it is not known.
        classes: Number of classes.

    Returns:
        One sentence; None where the accuracy is clearly above chance, or not clearly below `own`.
    """
    low, high = look.interval95
    chance = 1.0 / classes
    if own is None or low > chance or high >= own:
        return None
    return (
        f"the accuracy {look.accuracy:.1%} on {look.images} images is near chance ({chance:.1%}), "
        f"but the head had {own:.1%} on data it was fitted for: check that classes, normalization, "
        "channel order and image size are those of training"
    )
