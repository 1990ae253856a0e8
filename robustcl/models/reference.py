"""Compare a model that was loaded with what is known of it: an accuracy, or logits."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode
from robustcl.data.stored_array import read_npz
from robustcl.models.description import Description

AGREE = 1e-3  # of the largest logit, by which logits may differ: other libraries round otherwise
_TOP1 = re.compile(
    r"^(best_|test_|val_|valid_|eval_)*(acc|accuracy|prec|top_?1|acc_?1|prec_?1|"
    r"acc_top_?1|top_?1_acc(uracy)?)(uracy)?@?1?$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Reference:
    """State the accuracy that a model is said to have.

    Args:
        name: Who says so, as in 'best_prec1'.
        accuracy: In [0, 1].
    """

    name: str
    accuracy: float


def accuracy_among(figures: Mapping[str, float]) -> Reference | None:
    """Find an accuracy among figures that lie beside weights.

    Args:
        figures: Numbers by name.

    Returns:
        The one whose name says that it is the share of images that are right, as a share or in
        percent; None where there is none, or several that differ.
    """
    found = {
        name: value / 100.0 if value > 1.0 else value
        for name, value in figures.items()
        if _TOP1.match(name) and 0.0 < value <= 100.0
    }
    if not found or max(found.values()) > 1.001 * min(found.values()):
        best = {name: value for name, value in found.items() if name.lower().startswith("best")}
        found = best if len(best) == 1 else {}
    return next((Reference(name, value) for name, value in found.items()), None)


def stated_reference(description: Description) -> Reference | None:
    """Read the accuracy that a model's own file stated.

    Args:
        description: Of the model.

    Returns:
        It; None where nothing was stated.
    """
    said = description.recipe.get("stated_accuracy")
    if not isinstance(said, Mapping):
        return None
    name, value = said.get("name"), said.get("accuracy")
    if isinstance(name, str) and isinstance(value, int | float) and 0.0 < value <= 1.0:
        return Reference(name, float(value))
    return None


def read_reference(text: str) -> Reference | tuple[Tensor, Tensor]:
    """Read what the user knows of a model.

    Args:
        text: An accuracy, as in 0.9178 or 91.78%, or a .npz file with `images` in [0, 1] and the
            `logits` that the model has for them.

    Returns:
        The accuracy, or (N, C, H, W) images and (N, K) logits.

    Raises:
        InputError: When it is neither.
    """
    if text.lower().endswith(".npz"):
        arrays, names = read_npz(Path(text), ("images", "logits"))
        if set(arrays) != {"images", "logits"}:
            raise InputError(f"{text!r} holds {', '.join(names)}; it needs images and logits")
        images, logits = arrays["images"], arrays["logits"]
        if images.ndim != 4 or logits.ndim != 2 or len(images) != len(logits) or not len(images):
            raise InputError(
                f"{text!r} holds images {images.shape} and logits {logits.shape}; give "
                "(N, C, H, W) and (N, K)"
            )
        points = torch.from_numpy(images.astype(np.float32))
        points = points / 255.0 if images.dtype == np.uint8 else points
        if images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
            points = points.permute(0, 3, 1, 2).contiguous()
        return points, torch.from_numpy(logits.astype(np.float64))
    try:
        value = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        value = -1.0
    if not 0.0 < value <= 1.0:
        raise InputError(
            f"--reference {text[:200]!r} is no accuracy, as 0.9178 or 91.78%, and no .npz file of "
            "images and logits"
        )
    return Reference("the user", value)


def compare_logits(
    classifier: Classifier, images: Tensor, wanted: Tensor | Callable[[Tensor], Tensor]
) -> str:
    """Compare a model's logits with known ones.

    Args:
        classifier: The model.
        images: (N, C, H, W) in [0, 1].
        wanted: (N, K) logits, or a function that computes them from the images.

    Returns:
        A sentence that says how near they are.

    Raises:
        InputError: When they differ by more than rounding, with the sizes of both.
    """
    if tuple(images.shape[1:]) != tuple(classifier.image_shape):
        raise InputError(
            f"the reference has images of {tuple(images.shape[1:])}, the model takes "
            f"{tuple(classifier.image_shape)}"
        )
    home = classifier.encoder.mean
    with torch.no_grad(), eval_mode(classifier):
        found = classifier(images.to(home)).double().cpu()
        known = wanted(images) if callable(wanted) else wanted
    known = known.detach().double().cpu()
    if found.shape != known.shape:
        raise InputError(
            f"the reference has logits of shape {tuple(known.shape)}, the model "
            f"{tuple(found.shape)}"
        )
    apart = float((found - known).abs().max()) / max(float(known.abs().max()), 1e-30)
    alike = int((found.argmax(1) == known.argmax(1)).sum())
    text = f"on {len(images)} images, {alike} with the same class"
    if not apart <= AGREE:
        raise InputError(
            f"logits differ from the reference by {apart:.2g} of the largest {text}: the model is "
            "not loaded as it was; look at architecture, --mean and --std, and the classes' order"
        )
    return f"logits equal those of the reference to {apart:.1g} of the largest {text}"
