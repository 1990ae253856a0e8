"""Fit a head on a checkpoint's encoder."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro
from torch import Tensor

from robustcl.batching import padded
from robustcl.calibration import calibration_error, fit_temperature
from robustcl.checkpoint import load_checkpoint, save_checkpoint
from robustcl.classifier import Classifier, Encoder
from robustcl.commands.options import DataOptions, emit, read_data, refuse_existing, say
from robustcl.data import Dataset, label_subset, stratified_split
from robustcl.errors import InputError
from robustcl.fit_head import encoder_hash, fit_head
from robustcl.out_of_memory import halving
from robustcl.training import fine_tune


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(DataOptions):
    """Fit a head on labeled images of the training split.

    With prototype, linear and knn the encoder's weights and BatchNorm statistics stay as they are,
    which a hash proves. A fifth of the labeled images is held out from a first head, to measure
    its accuracy and to fit the temperature at which its scores are probabilities.

    Args:
        checkpoint: The encoder.
        out: The new checkpoint, ending in .safetensors.
        head: prototype, linear or knn; fine_tune trains the encoder with a linear head.
        labels: Share of training images whose labels are used, the same number in every class.
        label_seed: Seed of their choice; with that of training, the same images.
        epochs: Passes of fine_tune.
        learning_rate: Peak rate of fine_tune.
        arch: Needed only for a checkpoint made from package.module:factory.
        overwrite: Replace an existing checkpoint.
        json: Write one JSON object on stdout.
    """

    checkpoint: tyro.conf.Positional[Path]
    out: Path
    head: Literal["prototype", "linear", "knn", "fine_tune"] = "prototype"
    labels: float = 1.0
    label_seed: int = 0
    epochs: int = 10
    learning_rate: float = 3e-4
    arch: str | None = None
    overwrite: bool = False
    json: bool = False


@dataclass(frozen=True)
class HeldOut:
    """Report a head on images that it was not fitted on.

    Args:
        images: How many.
        accuracy: Share that is right.
        temperature: At which softmax(scores / T) is most likely; None for kNN, whose scores are
            shares of votes.
        calibration_error: Of the probabilities, which flatters where the temperature was fitted
            on the same images.
    """

    images: int
    accuracy: float
    temperature: float | None
    calibration_error: float


def probe(options: ProbeOptions) -> int:
    """Run `robustcl probe`.

    Args:
        options: The options.

    Returns:
        The exit code.

    Raises:
        InputError: When there are no labels to fit on.
    """
    refuse_existing(options.out, overwrite=options.overwrite)
    loaded = load_checkpoint(options.checkpoint, arch=options.arch)
    dataset = _labeled(read_data(options, split="train"), options)
    before = encoder_hash(loaded.encoder)
    held = _held_out(loaded.encoder, dataset, options)
    classifier = _fit(loaded.encoder, dataset, options)
    after = encoder_hash(classifier.encoder)
    accuracy = _accuracy(_scores(classifier, dataset, options), dataset)
    facts = {"head": options.head, "labels": len(dataset), "held_out": held and asdict(held)}
    recipe = {**loaded.description.recipe, "probe": facts}
    save_checkpoint(options.out, classifier, replace(loaded.description, recipe=recipe))
    say(f"{options.head} head on {len(dataset)} labeled images: {accuracy:.1%} of them right")
    _tell(held)
    say(f"encoder {'unchanged' if before == after else 'tuned'}, hash {after[:16]}")
    say(f"checkpoint: {options.out}")
    if options.json:
        proof = {"encoder_hash": after, "encoder_frozen": before == after}
        emit({"checkpoint": str(options.out), "train_accuracy": accuracy, **facts, **proof})
    return 0


def _labeled(dataset: Dataset, options: ProbeOptions) -> Dataset:
    if not dataset.labeled or options.labels == 0.0:
        raise InputError(f"a head needs labels; {dataset.name!r} with --labels {options.labels} "
                         "has none")  # fmt: skip
    rows = label_subset(
        dataset.labels, options.labels, num_classes=dataset.num_classes, seed=options.label_seed
    )
    return dataset.select(rows)


def _fit(encoder: Encoder, dataset: Dataset, options: ProbeOptions) -> Classifier:
    weights = {name: value.clone() for name, value in encoder.state_dict().items()}

    def attempt(batch_size: int) -> Classifier:
        if options.head != "fine_tune":
            return fit_head(
                encoder, dataset, kind=options.head, batch_size=batch_size, device=options.device
            )
        encoder.load_state_dict(weights)  # as they were before an attempt ran out of memory
        return fine_tune(
            encoder,
            dataset,
            epochs=options.epochs,
            learning_rate=options.learning_rate,
            batch_size=batch_size,
            seed=options.seed,
            device=options.device,
        )

    return halving(attempt, options.batch_size)


def _held_out(encoder: Encoder, dataset: Dataset, options: ProbeOptions) -> HeldOut | None:
    fitted, held = stratified_split(dataset.labels, test_share=0.2, seed=options.seed)
    if not len(held):  # one image per class
        return None
    weights = {name: value.clone() for name, value in encoder.state_dict().items()}
    classifier = _fit(encoder, dataset.select(fitted), options)
    part = dataset.select(held)
    scores = _scores(classifier, part, options)
    encoder.load_state_dict(weights)
    labels = torch.from_numpy(part.labels)
    temperature = None if options.head == "knn" else fit_temperature(scores, labels)
    shares = scores if temperature is None else torch.softmax(scores.double() / temperature, dim=1)
    return HeldOut(
        images=len(part),
        accuracy=_accuracy(scores, part),
        temperature=temperature,
        calibration_error=calibration_error(shares, labels),
    )


def _scores(classifier: Classifier, dataset: Dataset, options: ProbeOptions) -> Tensor:
    parts = []
    with torch.no_grad():
        for batch in dataset.batches(options.batch_size):
            parts.append(padded(classifier, batch.images, batch_size=options.batch_size))
    return torch.cat(parts)


def _accuracy(scores: Tensor, dataset: Dataset) -> float:
    right = scores.argmax(dim=1) == torch.from_numpy(dataset.labels)
    return float(right.double().mean())


def _tell(held: HeldOut | None) -> None:
    if held is None:
        say("too few labels to hold any out: no temperature")
        return
    text = f"a head without {held.images} of them is right on {held.accuracy:.1%} of those"
    if held.temperature is not None:
        text += f"; as probabilities softmax(scores / {held.temperature:.3g})"
    say(f"{text}, calibration error {held.calibration_error:.3f}")
