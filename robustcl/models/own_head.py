"""Take the classification layer of a network as its head."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from robustcl.core.classifier import Classifier, Encoder, IdentityHead
from robustcl.core.errors import InputError
from robustcl.core.modules import eval_mode
from robustcl.models.architectures import take_off
from robustcl.models.heads import LinearHead


def own_classifier(encoder: Encoder, class_names: tuple[str, ...]) -> tuple[Classifier, str]:
    """Make a classifier of a network that puts out class scores, without changing its function.

    Where the scores are what a linear layer puts out, that layer becomes the head, and the features
    before it are the embedding; they are not put on the sphere. Otherwise the scores are the
    embedding. Which it is, is found by running the network on two images and compared bit by bit.

    Args:
        encoder: Of the whole network; its backbone loses the layer where one is taken off.
        class_names: By position; numbers where there are none.

    Returns:
        The classifier, and the name of the layer; '' where none was taken off.

    Raises:
        InputError: When there is one score only.
    """
    points = torch.linspace(0.0, 1.0, 2 * int(torch.tensor(encoder.image_shape).prod()))
    images = points.view(2, *encoder.image_shape).to(encoder.mean)
    with eval_mode(encoder), torch.no_grad():
        layer, scores = _last_linear(encoder, images)
        if scores.shape[1] < 2:
            raise InputError(
                "the network puts out one score for all classes; wrap it to return (B, K), for two "
                "classes torch.cat([-score, score], 1), and give FILE.py:factory"
            )
        name = next((n for n, part in encoder.backbone.named_modules() if part is layer), "")
        if layer is not None and name:
            head = _head_of(layer)
            take_off(encoder.backbone, name)
            classifier = Classifier(encoder, head, class_names=class_names, normalizes=False)
            if torch.equal(classifier(images), scores):
                return classifier, name
            parent, _, last = name.rpartition(".")
            encoder.backbone.get_submodule(parent).register_module(last, layer)
    head = IdentityHead(scores.shape[1])
    return Classifier(encoder, head, class_names=class_names, normalizes=False), ""


def _last_linear(encoder: Encoder, images: Tensor) -> tuple[nn.Linear | None, Tensor]:
    # The one linear layer whose output is what the network returns, called once on (B, d).
    calls: list[tuple[nn.Linear, Tensor]] = []

    def note(layer: nn.Module, given: tuple[Any, ...], output: object) -> None:
        del given
        if isinstance(layer, nn.Linear) and isinstance(output, Tensor):
            calls.append((layer, output))

    removers: list[Callable[[], None]] = []
    for part in encoder.backbone.modules():
        if type(part) is nn.Linear:
            removers.append(part.register_forward_hook(note).remove)
    try:
        scores = encoder(images)
    finally:
        for remove in removers:
            remove()
    ended = [layer for layer, output in calls if output is scores]
    if len(ended) != 1 or sum(layer is ended[0] for layer, _ in calls) != 1:
        return None, scores
    return ended[0], scores


def _head_of(layer: nn.Linear) -> LinearHead:
    weight = layer.weight.detach()
    bias = layer.bias.detach() if layer.bias is not None else weight.new_zeros(len(weight))
    head = LinearHead(weight, bias).to(weight.device, weight.dtype)
    head.weight.copy_(weight)  # without a detour by float32
    head.bias.copy_(bias)
    return head
