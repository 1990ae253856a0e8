"""Time calls of a model, and choose the layout in memory and the batch by what they take."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from robustcl.core.classifier import Classifier
from robustcl.core.memory import is_out_of_memory, release_freed_memory
from robustcl.evaluation.expected_time import PassSeconds, pass_times

Layout = Literal["as_given", "channels_last"]
_ON_CPU, _ON_GPU = 32, 512  # images of a call, at most
_TRIED = (8, 32, 64, 128, 256, 512)
_LONG = 0.5  # seconds of a call beyond which larger ones are taken to cost in proportion
_SHORT = 0.02  # seconds of a full call below which the layout is left as it is
_GAIN = 0.95  # of the time per image: what a larger batch or another layout has to save


@dataclass(frozen=True)
class CallTimes:
    """State what calls of a model take.

    Args:
        batch: Images of a full call.
        one: Seconds of a forward pass and of a gradient in a call of one image.
        full: The same in a full call.
        layout: Of the weights in memory.
    """

    batch: int
    one: PassSeconds
    full: PassSeconds
    layout: Layout = "as_given"

    @property
    def per_image(self) -> PassSeconds:
        """Seconds of a forward pass and of a gradient, per image of a full call."""
        return self.full[0] / self.batch, self.full[1] / self.batch

    def seconds(self, passes: PassSeconds, images: int) -> float:
        """Compute what passes over images take that go through the model together.

        Args:
            passes: Forward passes and gradients of each image.
            images: How many.

        Returns:
            Seconds; between one image and a full call the time of a call is linear.
        """
        whole, rest = divmod(images, self.batch)
        share = (rest - 1) / max(self.batch - 1, 1)
        return sum(
            count * (whole * full + (one + share * (full - one) if rest else 0.0))
            for count, one, full in zip(passes, self.one, self.full, strict=True)
        )


def measure_calls(
    classifier: Classifier,
    device: str | torch.device,
    *,
    most: int,
    layout: Layout | None = None,
) -> CallTimes:
    """Time calls on noise, and choose batch and layout.

    Args:
        classifier: The model, on the device and in eval mode.
        device: Where to compute.
        most: Images of a call, at most.
        layout: Of the weights; None for the one that is quicker.

    Returns:
        The times, of calls through all of the model's views.
    """
    most = min(most, _ON_CPU if torch.device(device).type == "cpu" else _ON_GPU)
    with in_layout(classifier, layout or "as_given"):
        found, tried = _measured(classifier, device, most)
    if layout is not None or sum(found.full) < _SHORT or not _gains_by_layout(classifier):
        return replace(found, layout=layout or "as_given")
    with in_layout(classifier, "channels_last"):
        try:
            other = _call(classifier, device, tried)
        except RuntimeError:  # as of views in the network's code, which need the other order
            return found
    ratio = sum(other) * found.batch / (sum(found.full) * tried)
    if ratio > _GAIN:
        return found
    one, full = ((ratio * pair[0], ratio * pair[1]) for pair in (found.one, found.full))
    return CallTimes(found.batch, one, full, "channels_last")


def _measured(
    classifier: Classifier, device: str | torch.device, most: int
) -> tuple[CallTimes, int]:
    # And the largest number of images that was tried.
    one = _call(classifier, device, 1)
    batch, full, tried = 1, one, 1
    for size in sorted({min(size, most) for size in _TRIED} - {1}):
        if sum(full) > _LONG:
            scale = size / batch
            batch, full = size, (scale * full[0], scale * full[1])
            if size >= _ON_CPU:
                break
            continue
        try:
            found = _call(classifier, device, size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            release_freed_memory()
            break
        if size > _ON_CPU and sum(found) / size > _GAIN * sum(full) / batch:
            break
        batch, full, tried = size, found, size
    return CallTimes(batch, one, full), tried


def _call(classifier: Classifier, device: str | torch.device, count: int) -> PassSeconds:
    forward, gradient = pass_times(classifier, count, device)
    images = classifier.evaluations * count
    return images * forward, images * gradient


def _gains_by_layout(model: nn.Module) -> bool:
    # Whether it has convolutions over pixels that overlap, and weights that may be laid out anew.
    if any(value.is_inference() for value in model.parameters()):
        return False
    return any(isinstance(part, nn.Conv2d) and part.kernel_size != part.stride
               for part in model.modules())  # fmt: skip


@contextmanager
def in_layout(model: nn.Module, layout: Layout) -> Iterator[None]:
    """Lay a model's weights out in memory, for a while; their values stay.

    Args:
        model: The model.
        layout: How.

    Yields:
        Nothing.
    """
    if layout == "as_given":
        yield
        return
    before = {name: value.data for name, value in model.named_parameters()}
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    try:
        yield
    finally:
        for name, value in model.named_parameters():
            place = before[name]
            same = place.device == value.device and place.dtype == value.dtype
            value.data = place if same else value.data.contiguous()
