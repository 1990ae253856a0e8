"""The ResNet-20 of a CIFAR-10 checkpoint of others, with shortcuts that are strided and padded."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Block(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.stride = after // before
        self.conv1 = nn.Conv2d(before, after, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.added = (after - before) // 2

    def forward(self, points: Tensor) -> Tensor:
        inner = torch.relu(self.bn1(self.conv1(points)))
        short = points[:, :, :: self.stride, :: self.stride]
        short = functional.pad(short, (0, 0, 0, 0, self.added, self.added))
        return torch.relu(self.bn2(self.conv2(inner)) + short)


class _ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(_Block(16, 16) for _ in range(3)))
        self.layer2 = nn.Sequential(_Block(16, 32), _Block(32, 32), _Block(32, 32))
        self.layer3 = nn.Sequential(_Block(32, 64), _Block(64, 64), _Block(64, 64))

    def forward(self, images: Tensor) -> Tensor:
        points = torch.relu(self.bn1(self.conv1(images)))
        return self.layer3(self.layer2(self.layer1(points))).mean((2, 3))


def resnet20() -> nn.Module:
    """Return the network without its classification layer."""
    return _ResNet20()
