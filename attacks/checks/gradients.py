"""Whether gradients of a model are of use to attacks."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from robustcl.attacks._pgd import pgd
from robustcl.attacks.checks.answers import random_search
from robustcl.attacks.checks.subject import Flag, Subject
from robustcl.attacks.steps import no_win
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError


def takes_gradients(classifier: Classifier, images: Tensor) -> Flag | None:
    """Look for backward passes within a forward pass: test-time optimization.

    Gradients are off outside, so whatever graph is built and walked back is the model's own. The
    walk is seen by the tensors it asks for, wherever it was started from.

    Args:
        classifier: The model.
        images: (B, C, H, W).

    Returns:
        The flag 'test_time_optimization', or None.

    Raises:
        InputError: When the model needs gradients that it has not switched on.
        RuntimeError: What else the model raises, as it is.
    """
    try:
        with torch.no_grad(), _backward_passes() as seen:
            classifier(images)
    except RuntimeError as error:
        if "does not require grad" in str(error):
            raise InputError(
                "the network takes gradients in its forward pass, which fails where gradients are "
                "off; put 'with torch.enable_grad():' around that part of its forward"
            ) from error
        if "saved tensor hooks" not in str(error):
            raise
        seen = [1]  # torch.func.grad, which refuses to be watched
    if not seen:
        return None
    return Flag(
        "test_time_optimization",
        "The model takes gradients inside its forward pass. Attacks follow the gradient around "
        "that optimization, not through it; attack the model without it and try what was found "
        "on the model with it.",
        (),
        13,
    )


@contextmanager
def _backward_passes() -> Iterator[list[int]]:
    # Every backward pass unpacks what the forward pass has saved.
    seen: list[int] = []

    def unpack(saved: Tensor) -> Tensor:
        seen.append(1)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack):
        yield seen


def zero_gradient(subject: Subject) -> Flag | None:
    """Look for a gradient of the margin that is zero or not finite at the image itself.

    Args:
        subject: Model and images.

    Returns:
        The flag 'zero_gradient' with these images, or None.
    """
    gradient = subject.gradient(subject.images).flatten(1)
    dead = ~torch.isfinite(gradient).all(dim=1) | (gradient == 0).all(dim=1)
    rows = torch.nonzero(dead)[:, 0].tolist()
    if not rows:
        return None
    return Flag(
        "zero_gradient",
        f"On {len(rows)} of {len(gradient)} images the gradient is zero or not finite where an "
        "attack starts, so gradient attacks cannot move. Give the scores before they saturate or "
        "are rounded, or attack by transfer from a twin without that part.",
        tuple(rows),
        11,
    )


_STEPS = 8  # of gradient ascent
QUERIES = 24  # of random search
_FURTHER = 1.2  # times as far that random search has to come, since ascent may miss the peak
DISTANCE = 1e-6  # of the points between which the slope is measured
MISMATCH = 0.1  # of the slope
SHARE, LEAST = 0.2, 2  # of the images; an ordinary network has hardly one


def gradient_masking(subject: Subject, exact: Subject, still: Tensor) -> Flag | None:
    """Compare the gradient with slopes nearby and, within the budget, with random search.

    The gradient misleads on an image where it is not the slope of the margin, measured in float64
    between two points, or where a few random queries raise the margin further, by a fifth, than
    gradient ascent does. Images without a gradient, or with scores that are constant nearby, are
    left to their own flags.

    Args:
        subject: Model, images and threat.
        exact: The same in float64.
        still: (B,) images whose scores are constant nearby, from `quantized_input.constant`.

    Returns:
        The flag 'gradient_masking' with these images where they are at least a fifth and two, or
        None.

    Reference:
        Athalye et al., Obfuscated Gradients Give a False Sense of Security, ICML 2018; Carlini et
        al., On Evaluating Adversarial Robustness, 2019.
    """
    gradient = subject.gradient(subject.images).nan_to_num(0.0, 0.0, 0.0)
    alive = gradient.flatten(1).abs().amax(dim=1) > 0
    if not bool(alive.any()):
        return None
    wrong = alive & ~still & wrong_slopes(exact)
    beaten = alive & beaten_at_random(subject)
    rows = torch.nonzero(wrong | beaten)[:, 0].tolist()
    if len(rows) < max(SHARE * len(alive), LEAST):
        return None
    threat, said = subject.threat, []
    if bool(beaten.any()):
        said.append(
            f"on {int(beaten.sum())} of {len(alive)} images {QUERIES} random queries raise the "
            f"margin further than {_STEPS} gradient steps do, within {threat.norm.capitalize()} "
            f"{float(torch.as_tensor(threat.eps).max()):.3g}"
        )
    if bool(wrong.any()):
        said.append(
            f"on {int(wrong.sum())} of {len(alive)} images the gradient is not the slope that is "
            "measured between two points"
        )
    return Flag(
        "gradient_masking",
        f"Gradients mislead: {', and '.join(said)}. What gradient attacks do not find may be "
        "there; attack by transfer from an undefended twin and without gradients "
        "(autoattack includes Square).",
        tuple(rows),
        12,
    )


def beaten_at_random(subject: Subject) -> Tensor:
    """Compare gradient ascent with random search, from the image and within the budget.

    Args:
        subject: Model, images and threat.

    Returns:
        (B,) whether random search raises the margin further.
    """
    images = subject.images
    with torch.no_grad():
        start = no_win(subject.margin(images))
    found = pgd(subject.objective, images, subject.threat, steps=_STEPS, restarts=1)
    with torch.no_grad():
        climbed = no_win(subject.margin(found.candidates)) - start
    searched = random_search(subject, queries=QUERIES) - start
    return torch.isfinite(start) & (searched > 0) & (searched > _FURTHER * climbed)


def wrong_slopes(exact: Subject) -> Tensor:
    """Compare the gradient with slopes measured along it and in a random direction.

    Args:
        exact: Model and images in float64.

    Returns:
        (B,) whether one of the two is off by more than a tenth, and by more than rounding.
    """
    points = exact.generic()
    gradient = exact.gradient(points).nan_to_num(0.0, 0.0, 0.0)
    size = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    typical = size / gradient[0].numel() ** 0.5  # of the slope in a random direction
    rounding = torch.finfo(torch.float64).eps * exact.scores.abs().amax(dim=1) / DISTANCE
    wrong = torch.zeros_like(size, dtype=torch.bool)
    noise = exact.noise("direction")
    for direction, least in ((gradient, size), (noise, typical)):
        unit = torch.nn.functional.normalize(direction.flatten(1), dim=1).view_as(points)
        with torch.no_grad():
            ends = [exact.margin(points + side * DISTANCE * unit) for side in (0.5, -0.5)]
        slope = (ends[0] - ends[1]) / DISTANCE
        stated = (gradient * unit).flatten(1).sum(dim=1)
        off = (slope - stated).abs()
        wrong |= (off > MISMATCH * torch.maximum(slope.abs(), least)) & (off > 100.0 * rounding)
    return wrong & (size > 0)
