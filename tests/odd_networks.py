"""Networks that strangers bring: honest ones, and some that are not what their layers say."""

# Lists where torch's stubs want tuples, and what nn.Module makes of attributes.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robustcl.core.classifier import Classifier
from tests.network_parts import (
    CLASSES,
    SHAPE,
    Builder,
    Called,
    convolutional,
    dense,
    layers,
    number,
    ready,
    scores,
)
from tests.planted_networks import PLANTED

ACTIVATIONS: tuple[Callable[[torch.Generator], nn.Module], ...] = (
    lambda g: nn.LeakyReLU(number(g, -0.5, -2.0, 0.0, 0.3, 1.0, 3.0, 50.0)),
    lambda g: nn.ELU(number(g, -1.0, 0.1, 1.0, 3.0, 40.0)),
    lambda g: nn.Softplus(beta=number(g, -1.0, -3.0, 0.05, 0.5, 2.0, 100.0, 1e4)),
    lambda g: nn.Softplus(threshold=number(g, 20.0, 25.0, 40.0, 700.0)),
    lambda g: nn.PReLU(init=number(g, -1.5, 0.0, 0.25, 2.0)),
    lambda g: nn.PReLU(8, init=number(g, -1.5, 0.25, 2.0)),
    lambda g: nn.GELU(approximate="tanh" if number(g, 0, 1) else "none"),
    lambda g: nn.SiLU(inplace=bool(number(g, 0, 1))),
    lambda g: (nn.Mish(), nn.Hardswish(), nn.SELU(), nn.ReLU6())[int(number(g, 0, 1, 2, 3))],
    lambda g: nn.Hardtanh(number(g, -2.0, -0.1, 0.2), number(g, 0.3, 1.0, 5.0)),
    lambda g: (nn.Tanh(), nn.Sigmoid())[int(number(g, 0, 1))],
    lambda g: nn.ReLU(inplace=True),
)


def _activations(generator: torch.Generator) -> Classifier:
    chosen = [
        ACTIVATIONS[int(torch.randint(len(ACTIVATIONS), (), generator=generator))](generator)
        for _ in range(2)
    ]
    network = dense(chosen[0], nn.Linear(8, 8), chosen[1])
    return scores(network.double() if number(generator, 0, 1) else network)


def _paddings(generator: torch.Generator) -> Classifier:
    mode = ("zeros", "reflect", "replicate", "circular")[int(number(generator, 0, 1, 2, 3))]
    size = int(number(generator, 1, 2, 3))
    most = 5 if mode in ("reflect", "replicate") else 6
    sides: Any = (int(number(generator, 0, 1, 2, most)), int(number(generator, 0, 1, 3)))
    if mode == "zeros" and number(generator, 0, 0, 1):
        sides = ("same", "valid")[int(number(generator, 0, 1))]
    stride = 1 if sides == "same" else int(number(generator, 1, 2, 3))
    first = nn.Conv2d(
        1, 4, size, stride=stride, padding=sides, padding_mode=mode,
        dilation=int(number(generator, 1, 2)) if size > 1 else 1,
    )  # fmt: skip
    second = nn.Conv2d(4, 4, 1, groups=int(number(generator, 1, 2, 4)))
    return scores(
        ready(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)))
    )


POOLS: tuple[Callable[[torch.Generator], nn.Module], ...] = (
    lambda g: nn.MaxPool2d([2, 2]),
    lambda g: nn.MaxPool2d([3, 2], stride=[1, 2], padding=[1, 0]),
    lambda g: nn.MaxPool2d(2, dilation=[2, 1], stride=1),
    lambda g: nn.AvgPool2d([2, 3], stride=[1, 1]),
    lambda g: nn.AvgPool2d(2, divisor_override=int(number(g, 1, 3, 7))),
    lambda g: nn.AvgPool2d([3], padding=[1], count_include_pad=bool(number(g, 0, 1))),
    lambda g: nn.AvgPool2d(3, stride=2, ceil_mode=True),
    lambda g: nn.AdaptiveAvgPool2d([2, 3]),
    lambda g: nn.AdaptiveAvgPool2d((None, 4)),
)


def _pools(generator: torch.Generator) -> Classifier:
    pool = POOLS[int(torch.randint(len(POOLS), (), generator=generator))](generator)
    network = convolutional(nn.ReLU(), pool)
    return scores(ready(network))


def _dtypes(generator: torch.Generator) -> Classifier:
    kind = (torch.float64, torch.float16, torch.bfloat16)[int(number(generator, 0, 1, 2))]
    network = dense(nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
    return scores(network.to(kind))


def _scales(generator: torch.Generator) -> Classifier:
    network = dense(nn.ReLU(), nn.Linear(8, 8), nn.ReLU()).double()
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(number(generator, 1e-12, 1e-3, 1.0, 1e3, 1e12))
    return scores(network)


def _in_place(generator: torch.Generator) -> Classifier:
    # In-place layers as torchvision's ResNet has them: nothing is read after it was overwritten.
    channels = int(number(generator, 2, 4))

    def forward(self: Any, x: Tensor) -> Tensor:
        x = self.relu(self.scale(self.stem(x)))
        out = self.relu(self.a(x))
        out = self.b(out)
        out += x
        return self.last(self.drop(self.relu(out)).flatten(1))

    network = Called(
        forward,
        stem=nn.Conv2d(1, channels, 3, padding=1),
        scale=nn.BatchNorm2d(channels),
        relu=nn.ReLU(inplace=True),
        a=nn.Conv2d(channels, channels, 3, padding=1),
        b=nn.Conv2d(channels, channels, 3, padding=1),
        drop=nn.Dropout(inplace=True),
        last=nn.Linear(36 * channels, CLASSES),
    )
    network.scale.running_var.uniform_(0.3, 3.0)
    return scores(network)


def _keeps(generator: torch.Generator) -> Classifier:
    def forward(self: Any, x: Tensor) -> Tensor:
        self.last_seen = torch.relu(self.first(x.flatten(1)))
        self.kept = {"all": [self.last_seen]}
        return self.last(self.last_seen)

    model = scores(Called(forward, **layers(generator)))
    model(torch.rand(2, *SHAPE))
    return model


# What ought to be certified.
HONEST: Mapping[str, Builder] = {
    "activations": _activations,
    "paddings": _paddings,
    "pooling": _pools,
    "types": _dtypes,
    "scales": _scales,
    "in place": _in_place,
    "kept activations": _keeps,
}


def odd_network(name: str, seed: int) -> Classifier:
    torch.manual_seed(seed)
    builder = PLANTED.get(name) or HONEST[name]
    return builder(torch.Generator().manual_seed(seed))
