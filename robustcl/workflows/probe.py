"""Fit a head on a checkpoint's encoder."""

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from robustcl.attacks import inner_ascent
from robustcl.calibration import calibration_error, fit_temperature, top_label
from robustcl.core.abstention import answered, predict, warn_abstained
from robustcl.core.batching import fixed_size, retry_smaller
from robustcl.core.budgets import read_budget
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError
from robustcl.core.terminal import answer, emit, say
from robustcl.core.threat import Threat
from robustcl.data import Dataset, label_subset, stratified_split
from robustcl.models.checkpoint import save_checkpoint
from robustcl.models.heads.fitting import encoder_hash, fit_head
from robustcl.models.standardized_inputs import normalization_doubt
from robustcl.options.probe import ProbeOptions
from robustcl.training import fine_tune
from robustcl.training.protocols import PROTOCOLS, ProtocolOptions, aff, alf, slf
from robustcl.workflows.attack import ATTACK_EPS
from robustcl.workflows.data import read_data
from robustcl.workflows.models import approve_again, load_and_tell, model_request
from robustcl.workflows.outputs import check_checkpoint, refuse_inside_data


@dataclass(frozen=True)
class HeldOut:
    """Report a head on images that it was not fitted on.

    Args:
        images: How many.
        accuracy: Share that is right; where the head abstains it is wrong.
        temperature: At which softmax(scores / T) is most likely; None for kNN, whose scores are
            shares of votes.
        calibration_error: Of the probabilities, which flatters where the temperature was fitted
            on the same images; None where the head abstains everywhere.
        abstained: Images without finite scores, which temperature and error leave out.
    """

    images: int
    accuracy: float
    temperature: float | None
    calibration_error: float | None
    abstained: int = 0


def probe(options: ProbeOptions) -> int:
    """Run `robustcl probe`.

    Args:
        options: The options.

    Returns:
        The exit code.

    Raises:
        InputError: When there are no labels to fit on, or a head and a protocol are asked for.
    """
    if options.head and options.protocol:
        raise InputError(
            f"--head {options.head} with --protocol {options.protocol}; a protocol trains its own "
            "linear head, so give one of the two"
        )
    _terms(options)  # a mistake in the options is said before anything is loaded
    name = options.protocol or options.head or "prototype"
    check_checkpoint(options.out, overwrite=options.overwrite)
    refuse_inside_data(options.out, options.data)
    loaded = load_and_tell(options.checkpoint, replace(model_request(options), own_head=False))
    data = read_data(options, split="train", transform=loaded.transform)
    dataset = _labeled(data, options)
    _doubt_inputs(loaded.encoder, dataset, options)
    before = encoder_hash(loaded.encoder)
    held = None if options.protocol else _held_out(loaded.encoder, dataset, options)
    classifier = _fit(loaded.encoder, dataset, options)
    after = encoder_hash(classifier.encoder)
    scores = _scores(classifier, dataset, options)
    accuracy = _accuracy(scores, dataset)
    if name in (*PROTOCOLS, "fine_tune"):  # the others name what they leave out of the fit
        lost = torch.nonzero(~answered(scores))[:, 0].tolist()
        among = f"the {len(dataset)} that the head is fitted on"
        warn_abstained(lost, "the head abstains there, which counts as wrong", among=among)
    facts = {"head": name, "labels": len(dataset), "held_out": held and asdict(held)}
    recipe = {**loaded.description.recipe, "probe": {**facts, **_terms(options)}}
    save_checkpoint(options.out, classifier, replace(loaded.description, recipe=recipe))
    approve_again(loaded, options.out)
    tell = partial(answer, json=options.json)
    tell(f"{name} head on {len(dataset)} labeled images: {accuracy:.1%} of them right")
    if not options.protocol:
        tell(_of_held_out(held))
    tell(f"encoder {'unchanged' if before == after else 'tuned'}, hash {after[:16]}")
    tell(f"checkpoint: {options.out}")
    if options.json:
        proof = {"encoder_hash": after, "encoder_frozen": before == after}
        emit({"checkpoint": str(options.out), "train_accuracy": accuracy, **facts, **proof})
    return 0


def _doubt_inputs(encoder: Encoder, dataset: Dataset, options: ProbeOptions) -> None:
    def attempt(batch_size: int) -> str | None:
        return normalization_doubt(
            encoder, dataset, batch_size=batch_size, device=options.device, seed=options.seed
        )

    doubt = retry_smaller(attempt, options.batch_size)
    if doubt:
        say(f"warning: {doubt}")


def _labeled(dataset: Dataset, options: ProbeOptions) -> Dataset:
    if not dataset.labeled or options.labels == 0.0:
        raise InputError(f"a head needs labels; {dataset.name!r} with --labels {options.labels} "
                         "has none")  # fmt: skip
    rows = label_subset(
        dataset.labels, options.labels, num_classes=dataset.num_classes, seed=options.label_seed
    )
    return dataset.select(rows)


def _fit(
    encoder: Encoder, dataset: Dataset, options: ProbeOptions, *, warn: bool = True
) -> Classifier:
    weights = {name: value.clone() for name, value in encoder.state_dict().items()}

    def attempt(batch_size: int) -> Classifier:
        if options.protocol:
            encoder.load_state_dict(weights)  # as they were before an attempt ran out of memory
            return _by_protocol(encoder, dataset, options, batch_size)
        if options.head != "fine_tune":
            kind = options.head or "prototype"
            return fit_head(
                encoder,
                dataset,
                kind=kind,
                batch_size=batch_size,
                device=options.device,
                warn=warn,
            )
        encoder.load_state_dict(weights)
        return fine_tune(
            encoder,
            dataset,
            epochs=10 if options.epochs is None else options.epochs,
            learning_rate=3e-4 if options.learning_rate is None else options.learning_rate,
            batch_size=batch_size,
            seed=options.seed,
            device=options.device,
        )

    return retry_smaller(attempt, options.batch_size)


def _by_protocol(
    encoder: Encoder, dataset: Dataset, options: ProbeOptions, batch_size: int
) -> Classifier:
    how, device = replace(_how(options), batch_size=batch_size), options.device
    progress = not options.quiet
    if options.protocol == "slf":
        return slf(encoder, dataset, options=how, device=device, progress=progress)
    train = alf if options.protocol == "alf" else aff
    return train(
        encoder, dataset, attack=inner_ascent, options=how, device=device, progress=progress
    )


def _how(options: ProbeOptions) -> ProtocolOptions:
    eps = ATTACK_EPS[options.norm] if options.eps is None else options.eps
    return ProtocolOptions(
        epochs=25 if options.epochs is None else options.epochs,
        learning_rate=options.learning_rate,
        seed=options.seed,
        threat=Threat(options.norm, read_budget(eps, options.norm)),
        steps=options.steps,
        beta=options.beta,
    )


def _terms(options: ProbeOptions) -> dict[str, Any]:
    # What a protocol was run with, for the record in the checkpoint.
    if options.protocol is None:
        return {}
    how = _how(options)
    rate = how.learning_rate or PROTOCOLS[options.protocol]
    terms = {"epochs": how.epochs, "learning_rate": rate, "seed": how.seed}
    if options.protocol != "slf":
        terms |= {"norm": how.threat.norm, "eps": how.threat.eps, "steps": how.steps}
    return terms | ({"beta": how.beta} if options.protocol == "aff" else {})


def _held_out(encoder: Encoder, dataset: Dataset, options: ProbeOptions) -> HeldOut | None:
    fitted, held = stratified_split(dataset.labels, test_share=0.2, seed=options.seed)
    if not len(held):  # one image per class
        return None
    weights = {name: value.clone() for name, value in encoder.state_dict().items()}
    classifier = _fit(encoder, dataset.select(fitted), options, warn=False)  # the whole fit does
    part = dataset.select(held)
    scores = _scores(classifier, part, options)
    encoder.load_state_dict(weights)
    known = answered(scores)
    found = HeldOut(len(part), _accuracy(scores, part), None, None, int((~known).sum()))
    if not bool(known.any()):
        return found
    labels, scores = torch.from_numpy(part.labels)[known], scores[known]
    temperature = None if options.head == "knn" else fit_temperature(scores, labels)
    shares = scores if temperature is None else torch.softmax(scores.double() / temperature, dim=1)
    error = calibration_error(*top_label(shares, labels))
    return replace(found, temperature=temperature, calibration_error=error)


def _scores(classifier: Classifier, dataset: Dataset, options: ProbeOptions) -> Tensor:
    parts = []
    with torch.no_grad():
        for batch in dataset.batches(options.batch_size):
            parts.append(fixed_size(classifier, batch.images, batch_size=options.batch_size))
    return torch.cat(parts)


def _accuracy(scores: Tensor, dataset: Dataset) -> float:
    right = predict(scores) == torch.from_numpy(dataset.labels)
    return float(right.double().mean())


def _of_held_out(held: HeldOut | None) -> str:
    if held is None:
        return "too few labels to hold any out: no accuracy of other images, no temperature"
    text = f"a head without {held.images} of them is right on {held.accuracy:.1%} of those"
    if held.temperature is not None:
        text += f"; as probabilities softmax(scores / {held.temperature:.3g})"
    if held.calibration_error is not None:
        text += f", calibration error {held.calibration_error:.3f}"
    return f"{text}; it abstains on {held.abstained}" if held.abstained else text
