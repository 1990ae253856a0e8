"""Encoders: one file per family."""

from collections.abc import Callable

from torch import nn

from robustcl.encoders.cifar_resnet18 import cifar_resnet18
from robustcl.encoders.max_min import MaxMin
from robustcl.encoders.small_convnet import small_convnet

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "cifar_resnet18": cifar_resnet18,
    "small_convnet": small_convnet,
}

__all__ = ["ARCHITECTURES", "MaxMin", "cifar_resnet18", "small_convnet"]
