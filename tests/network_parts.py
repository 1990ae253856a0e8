"""Parts of the networks that strangers bring."""

# Lists where torch's stubs want tuples, and what nn.Module makes of attributes.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustcl.core.classifier import Classifier

SHAPE = (1, 6, 6)
CLASSES = 3

Builder = Callable[[torch.Generator], Classifier]


def number(generator: torch.Generator, *choices: float) -> float:
    return choices[int(torch.randint(len(choices), (), generator=generator))]


def scores(network: nn.Module) -> Classifier:
    return Classifier.from_scores(network, image_shape=SHAPE).eval()


def dense(*inner: nn.Module, width: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, width), *inner, nn.Linear(width, CLASSES))


def convolutional(*inner: nn.Module, channels: int = 4) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), *inner, nn.Flatten(), nn.LazyLinear(CLASSES)
    )


def ready(network: nn.Module) -> nn.Module:
    network(torch.zeros(2, *SHAPE))  # gives lazy layers their shape
    return network


class Called(nn.Module):
    """A network whose forward is a function of its layers."""

    def __init__(self, function: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def layers(generator: torch.Generator) -> dict[str, nn.Module]:
    width = int(number(generator, 4, 8))
    return {
        "first": nn.Linear(36, width),
        "second": nn.Linear(width, width),
        "last": nn.Linear(width, CLASSES),
    }
