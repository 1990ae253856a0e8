"""Encoders: one file per family."""

from collections.abc import Callable
from functools import partial

from torch import nn

from robustcl.encoders.batch_norm_convnet import batch_norm_convnet
from robustcl.encoders.cifar_resnet18 import cifar_resnet18
from robustcl.encoders.lipschitz_convnet import lipschitz_convnet
from robustcl.encoders.max_min import MaxMin
from robustcl.encoders.small_convnet import small_convnet
from robustcl.encoders.strided_convnet import strided_convnet

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "batch_norm_convnet": batch_norm_convnet,
    "cifar_resnet18": cifar_resnet18,
    "lipschitz_convnet": lipschitz_convnet,
    "lipschitz_convnet_large": partial(lipschitz_convnet, size="large"),
    "small_convnet": small_convnet,
    "strided_convnet": strided_convnet,
}

__all__ = [
    "ARCHITECTURES",
    "MaxMin",
    "batch_norm_convnet",
    "cifar_resnet18",
    "lipschitz_convnet",
    "small_convnet",
    "strided_convnet",
]
