"""Fit a head on a checkpoint's encoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from robustcl.batching import padded
from robustcl.checkpoint import load_checkpoint, save_checkpoint
from robustcl.classifier import Classifier
from robustcl.commands.options import DataOptions, emit, read_data, refuse_existing, say
from robustcl.data import Dataset
from robustcl.fit_head import fit_head
from robustcl.out_of_memory import halving


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(DataOptions):
    """Fit a head on the training split; weights and BatchNorm statistics stay as they are.

    Args:
        checkpoint: The encoder.
        out: The new checkpoint, ending in .safetensors.
        head: prototype, linear or knn.
        arch: Needed only for a checkpoint made from package.module:factory.
        overwrite: Replace an existing checkpoint.
        json: Write one JSON object on stdout.
    """

    checkpoint: tyro.conf.Positional[Path]
    out: Path
    head: Literal["prototype", "linear", "knn"] = "prototype"
    arch: str | None = None
    overwrite: bool = False
    json: bool = False


def probe(options: ProbeOptions) -> int:
    """Run `robustcl probe`.

    Args:
        options: The options.

    Returns:
        The exit code.
    """
    refuse_existing(options.out, overwrite=options.overwrite)
    loaded = load_checkpoint(options.checkpoint, arch=options.arch)
    dataset = read_data(options, split="train")

    def attempt(batch_size: int) -> Classifier:
        return fit_head(
            loaded.encoder,
            dataset,
            kind=options.head,
            batch_size=batch_size,
            device=options.device,
        )

    classifier = halving(attempt, options.batch_size)
    save_checkpoint(options.out, classifier, loaded.description)
    accuracy = _accuracy(classifier, dataset, options.batch_size)
    say(f"{options.head} head on {len(dataset)} images: {accuracy:.1%} of them right")
    say(f"checkpoint: {options.out}")
    if options.json:
        emit({"checkpoint": str(options.out), "train_accuracy": accuracy, "head": options.head})
    return 0


def _accuracy(classifier: Classifier, dataset: Dataset, batch_size: int) -> float:
    right = 0
    with torch.no_grad():
        for batch in dataset.batches(batch_size):
            scores = padded(classifier, batch.images, batch_size=batch_size)
            right += int((scores.argmax(dim=1) == batch.labels).sum())
    return right / len(dataset)
