"""Small untrained encoders of every family that bounds on a ball are computed for."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustcl.core.classifier import Encoder
from robustcl.models.encoders import MaxMin

SHAPE = (3, 4, 4)


class Residual(nn.Module):
    """A residual block with BatchNorm, a difference and a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.scale = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        branch = self.second(torch.relu(self.scale(self.first(features))))
        return torch.relu(features + branch) - 0.5 * branch + 0.1


class Joined(nn.Module):
    """Two branches side by side, a factor, a constant and a mean over an axis."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(3, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        left = self.left(images)
        joined = torch.cat([torch.tanh(left), self.right(images)], dim=1)
        return (joined * 2 + torch.ones(4, 1, 1)).mean(3).flatten(1)


def _dense(activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(48, 20), activation, nn.Linear(20, 12), activation, nn.Linear(12, 6)
    )


def _convolutional(first: nn.Module, second: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        first,
        nn.Conv2d(4, 8, 3, stride=2, padding=1, padding_mode="circular", groups=2),
        second,
        nn.Flatten(),
        nn.Linear(32, 6),
    )


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: _dense(nn.ReLU()),
    "leaky": lambda: _dense(nn.LeakyReLU(0.2)),
    "prelu": lambda: _dense(nn.PReLU(init=0.3)),
    "leaky_negative": lambda: _dense(nn.LeakyReLU(-0.3)),
    "elu": lambda: _dense(nn.ELU()),
    "elu_half": lambda: _dense(nn.ELU(0.5)),
    "gelu": lambda: _dense(nn.GELU()),
    "gelu_tanh": lambda: _dense(nn.GELU(approximate="tanh")),
    "silu": lambda: _dense(nn.SiLU()),
    "tanh": lambda: _dense(nn.Tanh()),
    "sigmoid": lambda: _dense(nn.Sigmoid()),
    "softplus": lambda: _dense(nn.Softplus(beta=2)),
    "convolutional": lambda: _convolutional(nn.ReLU(), nn.GELU()),
    "max_min": lambda: _convolutional(MaxMin(), MaxMin()),
    "max_min_scaled": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        MaxMin(),
        nn.Conv2d(6, 6, 1, groups=2),  # pairs cross its groups
        MaxMin(),
        nn.Flatten(),
        MaxMin(),  # behind no layer that it could be folded into
        nn.Linear(96, 8),
        MaxMin(),
        nn.Linear(8, 6),
    ),
    "max_pool": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.MaxPool2d(3, 2, 1),
        nn.ELU(),
        nn.Conv2d(4, 8, 2, dilation=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(8, 6),
    ),
    "residual": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        Residual(),
        Residual(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 6),
    ),
    "joined": lambda: nn.Sequential(Joined(), nn.SiLU(), nn.Linear(16, 6)),
}


def family(name: str, *, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    layers = FAMILIES[name]()
    for part in layers.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()  # pyright: ignore[reportOptionalMemberAccess]
            part.running_var.uniform_(0.5, 2.0)  # pyright: ignore[reportOptionalMemberAccess]
            nn.init.uniform_(part.weight, -1.5, 1.5)
            nn.init.normal_(part.bias)
    encoder = Encoder(layers, image_shape=SHAPE, mean=(0.5, 0.4, 0.3), std=(0.5, 0.3, 0.4))
    return encoder.double().eval()


def images_and_directions(count: int = 3, *, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, *SHAPE, generator=generator, dtype=torch.float64)
    return images, torch.randn(count, 4, 6, generator=generator, dtype=torch.float64)


def perturbed(images: Tensor, radius: float, norm: str, *, seed: int) -> Tensor:
    """Points in the ball, half of them on its surface, some beside one pixel or along a sign."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    inner = 1.0 if seed % 2 else float(torch.rand((), generator=generator))
    if norm == "linf":
        noise = noise.sign() if seed % 2 else 2 * torch.rand(noise.shape, generator=generator) - 1
        return images + radius * noise
    if seed % 5 == 0:  # all of the budget on a few pixels
        noise = noise * (noise.abs() > 2.0)
    sizes = noise.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
    return images + radius * inner * noise / sizes
