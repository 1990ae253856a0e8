"""Encoders: one file per family."""

from collections.abc import Callable
from functools import partial

from torch import nn

from robustcl.core.lazy import declared
from robustcl.declarations.encoders import ENCODER_ROWS
from robustcl.models.encoders.convnets import batch_norm_convnet, small_convnet, strided_convnet
from robustcl.models.encoders.lipschitz import lipschitz_convnet
from robustcl.models.encoders.max_min import MaxMin
from robustcl.models.encoders.residual import cifar_resnet
from robustcl.models.encoders.resnets import cifar_resnet18
from robustcl.models.encoders.stacked import stack

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    name: partial(declared(f"models.encoders.{row.home}"), **row.options)
    for name, row in ENCODER_ROWS.items()
}

__all__ = [
    "ARCHITECTURES",
    "MaxMin",
    "batch_norm_convnet",
    "cifar_resnet",
    "cifar_resnet18",
    "lipschitz_convnet",
    "small_convnet",
    "stack",
    "strided_convnet",
]
