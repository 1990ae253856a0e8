"""Build the residual networks for small images that public programs train."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from robustcl.core.errors import InputError

Shortcut = Literal["convolution", "padding"]
Block = Literal["basic", "bottleneck"]
_MOST = 64  # blocks of a stage


class _Padding(nn.Module):
    # Every second pixel, and zero channels on both sides: option A of He et al. It has no weights.

    def __init__(self, more: int) -> None:
        super().__init__()
        self.more = more

    def forward(self, images: Tensor) -> Tensor:
        half = self.more // 2
        return nn.functional.pad(images[:, :, ::2, ::2], (0, 0, 0, 0, half, self.more - half))


class _Basic(nn.Module):
    expansion = 1

    def __init__(self, before: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(before, width, stride, shortcut)

    def forward(self, images: Tensor) -> Tensor:
        points = torch.relu(self.bn1(self.conv1(images)))
        return torch.relu(self.bn2(self.conv2(points)) + self.downsample(images))


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, before: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(before, 4 * width, stride, shortcut)

    def forward(self, images: Tensor) -> Tensor:
        points = torch.relu(self.bn1(self.conv1(images)))
        points = torch.relu(self.bn2(self.conv2(points)))
        return torch.relu(self.bn3(self.conv3(points)) + self.downsample(images))


def _shortcut(before: int, after: int, stride: int, kind: Shortcut) -> nn.Module:
    if stride == 1 and before == after:
        return nn.Identity()
    if kind == "convolution":
        return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
    if stride != 2 or after <= before:
        raise InputError(
            f"a shortcut by padding from {before} to {after} channels at stride {stride}; only "
            "blocks that halve the side and add channels have one"
        )
    return _Padding(after - before)


class _Residual(nn.Module):
    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        width: int,
        *,
        relu: bool,
        pool: bool,
        head: nn.Module,
    ) -> None:
        super().__init__()
        self.conv1 = stem
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if pool else nn.Identity()
        for number, stage in enumerate(stages, start=1):
            self.add_module(f"layer{number}", stage)
        self._count = len(stages)
        self.fc = head

    def forward(self, images: Tensor) -> Tensor:
        points = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for number in range(1, self._count + 1):
            points = self.get_submodule(f"layer{number}")(points)
        return self.fc(points.mean((2, 3)))


def cifar_resnet(
    *,
    channels: int = 3,
    blocks: Sequence[int] = (3, 3, 3),
    width: int = 16,
    block: Block = "basic",
    shortcut: Shortcut = "padding",
    num_classes: int = 0,
    stem_padding: int = 1,
    stem_relu: bool = True,
    max_pool: bool = False,
) -> nn.Module:
    """Build a residual network with a 3x3 stem of stride 1, for images of 32 pixels or so.

    By default it is the ResNet-20 of He et al. for CIFAR-10: three stages of 16, 32 and 64
    channels, and shortcuts without weights. With four stages of 64 to 512 channels and shortcuts by
    convolution it is the network of many public programs for CIFAR. Names of tensors are those of
    torchvision's residual networks.

    Args:
        channels: Channels of the images.
        blocks: Blocks of each stage; from the second on, each stage halves the side and doubles
            the channels.
        width: Channels of the first stage.
        block: 'basic', or 'bottleneck', which puts out four times its channels.
        shortcut: Where a block changes the shape, 'convolution' (1x1, with BatchNorm) or 'padding'
            (every second pixel, zeros for the new channels).
        num_classes: K of a linear layer `fc` on the pooled features; 0 for none.
        stem_padding: Padding of the stem, 1, or 2 as in solo-learn.
        stem_relu: Whether a ReLU follows the stem. It is lost where a program puts the children of
            a network whose activations are functions into an `nn.Sequential`.
        max_pool: Whether max-pooling of stride 2 follows the stem.

    Returns:
        Images (B, channels, H, W) to features (B, d), or scores (B, K).

    Raises:
        InputError: When a number is not usable.

    Reference:
        He et al., Deep Residual Learning, CVPR 2016, sections 3.3 and 4.2.
    """
    kinds = {"basic": _Basic, "bottleneck": _Bottleneck}
    if block not in kinds or shortcut not in ("convolution", "padding"):
        raise InputError(f"block {block!r} with shortcut {shortcut!r}; see cifar_resnet")
    counts = tuple(blocks)
    if not counts or len(counts) > 6 or not all(1 <= count <= _MOST for count in counts):
        raise InputError(f"blocks {counts} are not 1 to 6 numbers from 1 to {_MOST}")
    if width < 1 or channels < 1 or num_classes < 0 or stem_padding not in (0, 1, 2):
        raise InputError(
            f"width {width}, channels {channels}, num_classes {num_classes}, stem_padding "
            f"{stem_padding}; give positive numbers, and a padding of 0, 1 or 2"
        )
    kind, before = kinds[block], width
    stages = []
    for number, count in enumerate(counts):
        inner = width * 2**number
        stage = []
        for place in range(count):
            stride = 2 if number and not place else 1
            stage.append(kind(before, inner, stride, shortcut))
            before = inner * kind.expansion
        stages.append(nn.Sequential(*stage))
    stem = nn.Conv2d(channels, width, 3, padding=stem_padding, bias=False)
    head = nn.Linear(before, num_classes) if num_classes else nn.Identity()
    network = _Residual(stem, stages, width, relu=stem_relu, pool=max_pool, head=head)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return network
