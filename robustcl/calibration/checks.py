"""Check confidences, and that what is measured was held out."""

import hashlib
import operator

import numpy as np
import torch
from torch import Tensor

from robustcl.core.errors import InputError
from robustcl.data.dataset import Dataset

SUM_TOLERANCE = 1e-4


def check_confidence(confidence: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
    """Return confidences in [0, 1] and their outcomes.

    Args:
        confidence: (N,) in [0, 1].
        correct: (N,) ones where the prediction is right, else zeros.

    Returns:
        (N,) confidences in their own floating-point type (float64 for whole numbers) and (N,)
        float64 outcomes.

    Raises:
        InputError: When they are not usable.
    """
    values, outcomes = check_ranking(confidence, correct)
    return check_unit(values), outcomes


def check_ranking(confidence: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
    """Return confidences of any size, and their outcomes.

    Args:
        confidence: (N,) any numbers but NaN, higher for surer.
        correct: (N,) ones where the prediction is right, else zeros.

    Returns:
        As `check_confidence`.

    Raises:
        InputError: When they are not usable.
    """
    values, outcomes = _real(confidence, "confidence"), _real(correct, "outcomes")
    if values.ndim != 1 or outcomes.shape != values.shape or not len(values):
        raise InputError(
            f"confidence {tuple(values.shape)} with outcomes {tuple(outcomes.shape)}; give (N,) "
            "and (N,), N >= 1"
        )
    _refuse(values.isnan(), values, "confidence", "a number; leave the image out")
    _refuse((outcomes != 0) & (outcomes != 1), outcomes, "outcome", "0 (wrong) or 1 (right)")
    return values, outcomes.double()


def check_unit(confidence: Tensor) -> Tensor:
    """Return confidences in [0, 1].

    Args:
        confidence: (N,).

    Returns:
        (N,) in their own floating-point type, float64 for whole numbers.

    Raises:
        InputError: When one is not in [0, 1], or there is none.
    """
    values = _real(confidence, "confidence")
    if values.ndim != 1 or not len(values):
        raise InputError(f"confidence of shape {tuple(values.shape)}; give (N,), N >= 1")
    cure = "in [0, 1]; clip similarities, or fit a temperature"
    _refuse(~((values >= 0) & (values <= 1)), values, "confidence", cure)
    return values


def check_probabilities(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return probabilities over classes, and labels.

    Args:
        probabilities: (N, K) rows that sum to 1.
        labels: (N,) classes.

    Returns:
        (N, K) in [0, 1] in their own floating-point type, and (N,) int64.

    Raises:
        InputError: When the shapes do not match, there is no image, a label is no class, or a row
            is not a probability.
    """
    values, classes = _rows(probabilities, labels, "probabilities")
    sums = values.double().sum(dim=1)
    bad = ~((sums - 1.0).abs() <= SUM_TOLERANCE) | (values < 0).any(dim=1)
    if bool(bad.any()):
        row = int(torch.nonzero(bad)[0, 0])
        raise InputError(
            f"row {row} of the probabilities sums to {float(sums[row]):g} or has a negative or NaN "
            "entry; apply softmax(scores / T) first, in float32 or float64"
        )
    return values.clamp(0, 1), classes


def check_scores(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return finite scores, and labels.

    Args:
        scores: (N, K).
        labels: (N,) classes.

    Returns:
        (N, K) float64 and (N,) int64.

    Raises:
        InputError: When the shapes do not match, there is no image, a label is no class, or a score
            is not finite.
    """
    values, classes = _rows(scores, labels, "scores")
    bad = ~torch.isfinite(values).all(dim=1)
    if bool(bad.any()):
        row = int(torch.nonzero(bad)[0, 0])
        raise InputError(
            f"scores of image {row} are not finite, as those of {int(bad.sum())} of {len(bad)} "
            "images; leave these images out"
        )
    return values.double(), classes


def _check_labels(labels: Tensor, num_classes: int) -> Tensor:
    """Return labels as int64.

    Args:
        labels: (N,) whole numbers from 0 to K - 1, of any integer or floating-point type.
        num_classes: K.

    Returns:
        (N,) int64.

    Raises:
        InputError: When one is no class.
    """
    if isinstance(labels, Tensor) and labels.dtype == torch.bool:
        raise InputError("labels are torch.bool; give class numbers, as in labels.long()")
    values = _real(labels, "labels")
    wrong = ~((values >= 0) & (values < num_classes) & (values == values.floor()))
    _refuse(wrong, values, "label", f"a class from 0 to K - 1 = {num_classes - 1}")
    return values.long()


def check_differences(differences: Tensor) -> Tensor:
    """Return differences image by image.

    Args:
        differences: (N,) finite numbers.

    Returns:
        (N,) float64.

    Raises:
        InputError: When one is not finite, or there is none.
    """
    values = _real(differences, "differences")
    if values.ndim != 1 or not len(values):
        raise InputError(f"differences of shape {tuple(values.shape)}; give (N,), N >= 1")
    _refuse(~torch.isfinite(values), values, "difference", "finite; leave the image out")
    return values.double()


def check_count(name: str, value: int) -> int:
    """Return a number of bins or draws.

    Args:
        name: What is counted.
        value: Their number.

    Returns:
        The same.

    Raises:
        InputError: When it is not a whole number of 1 or more.
    """
    try:
        count = operator.index(value)
    except TypeError:
        count = 0
    if count < 1 or isinstance(value, bool):
        raise InputError(f"{name} {value!r} is not a whole number of 1 or more")
    return count


def _rows(values: Tensor, labels: Tensor, name: str) -> tuple[Tensor, Tensor]:
    rows, classes = _real(values, name), _real(labels, "labels")
    if rows.ndim != 2 or classes.shape != rows.shape[:1] or not rows.numel():
        raise InputError(
            f"{name} of shape {tuple(rows.shape)} with labels of shape {tuple(classes.shape)}; "
            "give (N, K) and (N,), N >= 1"
        )
    return rows, _check_labels(labels, rows.shape[1])


def _real(values: Tensor, name: str) -> Tensor:
    # Dense real numbers on the CPU, in their own floating-point type.
    if not isinstance(values, Tensor):
        kind = type(values).__name__
        raise InputError(f"{name}: a {kind}; give a tensor, as in torch.as_tensor(...)")
    if values.layout != torch.strided or values.is_nested or values.is_meta or values.is_complex():
        kind = "nested" if values.is_nested else f"{values.layout}, {values.dtype}, {values.device}"
        raise InputError(f"{name}: a tensor that is {kind}; give dense real numbers")
    plain = values.detach().cpu()
    return plain if plain.is_floating_point() else plain.double()


def _refuse(wrong: Tensor, values: Tensor, name: str, wanted: str) -> None:
    if bool(wrong.any()):
        row = int(torch.nonzero(wrong)[0, 0])
        raise InputError(f"{name} {float(values[row]):g} of image {row} is not {wanted}")


_CHUNK = 1024  # images that are decoded at once, where they are streamed


def check_held_out(held_out: Dataset, test: Dataset, *, num_classes: int) -> None:
    """Compare the pixels of two data sets image by image, and count the classes.

    Args:
        held_out: On which a temperature is to be fitted.
        test: On which calibration is to be measured.
        num_classes: K of the classifier.

    Raises:
        InputError: When an image is in both, held-out images have no labels or one beyond the
            classes, or a class has no held-out image.
    """
    if not held_out.labeled:
        raise InputError(f"{held_out.name!r} has no labels; a temperature needs them")
    largest = int(held_out.labels.max())
    if largest >= num_classes:
        raise InputError(
            f"{held_out.name!r} has the label {largest} but the classifier has {num_classes} "
            "classes; hold out images of its own classes"
        )
    known = {digest: row for row, digest in enumerate(image_hashes(test))}
    shared = [(r, known[d]) for r, d in enumerate(image_hashes(held_out)) if d in known]
    if shared:
        first, second = shared[0]
        raise InputError(
            f"{len(shared)} of {len(held_out)} held-out images are test images as well (image "
            f"{first} of {held_out.name!r} is image {second} of {test.name!r}); a temperature "
            "fitted on them would flatter, so hold out others"
        )
    counts = np.bincount(held_out.labels, minlength=num_classes)
    missing = np.flatnonzero(counts == 0)
    if len(missing):
        names = dict(enumerate(held_out.class_names))
        name = names.get(int(missing[0]), str(missing[0]))
        raise InputError(
            f"class {int(missing[0])} ({name}) has no image among {len(held_out)} held out; every "
            "class needs one, so hold out more"
        )


def image_hashes(dataset: Dataset) -> list[bytes]:
    """Hash the pixels of every image, whatever their type.

    Args:
        dataset: The images; those in [0, 1] are compared after rounding to 8 bits.

    Returns:
        One digest per image.
    """
    digests = []
    for start in range(0, len(dataset), _CHUNK):
        images = dataset.images[slice(start, start + _CHUNK)]
        if images.dtype != np.uint8:
            images = np.round(images * 255.0).astype(np.uint8)
        digests += [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images]
    return digests
