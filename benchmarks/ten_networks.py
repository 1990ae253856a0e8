"""State ten small networks on which certificates are compared: layers, head, loss and data.

They differ in family (dense, convolutional, residual with BatchNorm, GELU, MaxMin), depth, head
(prototypes, linear probe with offsets, scores as they are), loss and regularization.
`benchmarks/networks.py` trains them.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robustcl.core.classifier import Classifier, Encoder
from robustcl.models.encoders import MaxMin, small_convnet
from robustcl.models.heads import LinearHead, PrototypeHead

CLASSES = 10
SHAPES = {"digits": (1, 8, 8), "color": (3, 32, 32)}


class Residual(nn.Module):
    """relu(shortcut(x) + conv-bn-relu-conv-bn(x))."""

    def __init__(self, channels: int, out: int, *, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_convolution(channels, out, nn.ReLU, stride=stride, normalized=True),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, features: Tensor) -> Tensor:
        """Return the next features."""
        return torch.relu(self.shortcut(features) + self.branch(features))


@dataclass(frozen=True)
class Network:
    """State how a network is built and trained.

    Args:
        description: One line for tables.
        backbone: Makes the layers, with fresh weights.
        data: 'digits' (8x8 gray) or 'color' (32x32 RGB).
        head: 'scores': the network's outputs as they are; 'prototype' or 'linear': a head fitted
            on its embedding on the unit sphere.
        loss: 'cross_entropy', or 'contrastive' (NT-Xent and SupCon).
        epochs: Passes over the training images.
        images: Training images at most.
        learning_rate: Peak of the schedule.
        weight_decay: Decoupled weight decay of AdamW.
        penalty: Weight of log(product of layer norms) - log(mean |h|).
        mean: Input mean, all channels.
        std: Input standard deviation, all channels.
    """

    description: str
    backbone: Callable[[], nn.Sequential]
    data: Literal["digits", "color"]
    head: Literal["scores", "prototype", "linear"]
    loss: Literal["cross_entropy", "contrastive"] = "cross_entropy"
    epochs: int = 30
    images: int = 20_000
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    penalty: float = 0.0
    mean: float = 0.0
    std: float = 1.0


def _dense(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _convolution(
    channels: int,
    out: int,
    activation: Callable[[], nn.Module],
    *,
    stride: int = 1,
    normalized: bool = False,
) -> list[nn.Module]:
    layer = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=not normalized)
    return [layer, *([nn.BatchNorm2d(out)] if normalized else []), activation()]


def _chain(
    *plan: tuple[int, int],
    outputs: int,
    channels: int = 3,
    size: int = 32,
    activation: Callable[[], nn.Module] = nn.ReLU,
    normalized: bool = False,
) -> nn.Sequential:
    # Convolutions of (channels, stride), then one linear layer on all that is left.
    layers: list[nn.Module] = []
    for out, stride in plan:
        layers += _convolution(channels, out, activation, stride=stride, normalized=normalized)
        channels, size = out, (size + stride - 1) // stride
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * size * size, outputs))


def _orthogonal(network: nn.Sequential) -> nn.Sequential:
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(layer.weight)
    return network


def _resnet() -> nn.Sequential:
    return nn.Sequential(
        *_convolution(3, 16, nn.ReLU, stride=2, normalized=True),
        Residual(16, 16, stride=1),
        Residual(16, 32, stride=2),
        Residual(32, 32, stride=2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 32),
    )


DEEP = ((16, 2), (16, 1), (16, 1), (32, 2), (32, 1), (32, 1), (32, 1), (32, 2), (32, 1))
SHALLOW = ((16, 2), (32, 2), (32, 2))
NETWORKS: dict[str, Network] = {
    "digits-dense2": Network(
        "2 linear layers, 32 ReLU; scores, cross-entropy, weight decay",
        lambda: _dense(64, 32, CLASSES),
        "digits",
        "scores",
        weight_decay=1e-2,
        epochs=60,
    ),
    "digits-dense3": Network(
        "3 linear layers, 32 + 24 ReLU; prototypes, SupCon + NT-Xent",
        lambda: _dense(64, 32, 24, 16),
        "digits",
        "prototype",
        "contrastive",
        epochs=100,
    ),
    "digits-conv2": Network(
        "2 convolutions and a linear layer, ReLU; linear probe, SupCon + NT-Xent, norm penalty",
        lambda: small_convnet(channels=1, image_size=8, width=16, embedding_size=32),
        "digits",
        "linear",
        "contrastive",
        epochs=100,
        penalty=0.2,
    ),
    "digits-maxmin": Network(
        "2 convolutions and a linear layer, MaxMin; prototypes, cross-entropy, norm penalty",
        lambda: _orthogonal(
            _chain((16, 1), (16, 2), outputs=32, channels=1, size=8, activation=MaxMin)
        ),
        "digits",
        "prototype",
        epochs=60,
        penalty=0.15,
    ),
    "color-dense3": Network(
        "3 linear layers, 128 + 64 ReLU; scores, cross-entropy, weight decay, norm penalty",
        lambda: _dense(3072, 128, 64, CLASSES),
        "color",
        "scores",
        epochs=10,
        learning_rate=1e-3,
        weight_decay=1e-2,
        penalty=0.02,
        images=50_000,
    ),
    "color-conv4": Network(
        "3 convolutions and a linear layer, ReLU; prototypes, SupCon + NT-Xent, norm penalty",
        lambda: _chain(*SHALLOW, outputs=64),
        "color",
        "prototype",
        "contrastive",
        epochs=11,
        penalty=0.02,
    ),
    "color-conv10": Network(
        "9 convolutions with BatchNorm and a linear layer, ReLU; scores, cross-entropy",
        lambda: _chain(*DEEP, outputs=CLASSES, normalized=True),
        "color",
        "scores",
        epochs=4,
        weight_decay=1e-2,
        mean=0.47,
        std=0.25,
        images=50_000,
    ),
    "color-resnet": Network(
        "ResNet of 3 blocks with BatchNorm, ReLU; prototypes, cross-entropy on the sphere",
        _resnet,
        "color",
        "prototype",
        epochs=4,
        weight_decay=1e-2,
        mean=0.47,
        std=0.25,
        images=50_000,
    ),
    "color-gelu4": Network(
        "3 convolutions and a linear layer, GELU; linear probe, cross-entropy, weight decay",
        lambda: _chain(*SHALLOW, outputs=32, activation=nn.GELU),
        "color",
        "linear",
        epochs=10,
        weight_decay=0.1,
        images=50_000,
    ),
    "color-maxmin4": Network(
        "3 convolutions and a linear layer, MaxMin; scores, cross-entropy, norm penalty",
        lambda: _orthogonal(_chain(*SHALLOW, outputs=CLASSES, activation=MaxMin)),
        "color",
        "scores",
        epochs=6,
        penalty=0.1,
        images=50_000,
    ),
}


def build(name: str, *, seed: int = 0) -> Classifier:
    """Build a network with fresh weights and, where it has one, a random head.

    Args:
        name: A key of `NETWORKS`.
        seed: Seed of the weights.

    Returns:
        The classifier, in eval mode.
    """
    network = NETWORKS[name]
    torch.manual_seed(seed)
    shape, mean, std = SHAPES[network.data], (network.mean,), (network.std,)
    backbone = network.backbone()
    if network.head == "scores":
        return Classifier.from_scores(backbone, image_shape=shape, mean=mean, std=std).eval()
    encoder = Encoder(backbone, image_shape=shape, mean=mean, std=std)
    last = backbone[-1]
    assert isinstance(last, nn.Linear)
    weight = torch.randn(CLASSES, last.out_features)
    linear = network.head == "linear"
    head = LinearHead(weight, torch.randn(CLASSES)) if linear else PrototypeHead(weight)
    return Classifier(encoder, head).eval()
