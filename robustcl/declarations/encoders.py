"""Declare the encoders that are built by name: one row per architecture."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class EncoderRow:
    """Describe an architecture.

    Args:
        home: MODULE:FUNCTION in `models/encoders`: (*, channels, image_size, ...) to a network.
        options: Arguments that the name stands for.
    """

    home: str
    options: dict[str, Any] = field(default_factory=dict)


ENCODER_ROWS: dict[str, EncoderRow] = {
    "batch_norm_convnet": EncoderRow("convnets:batch_norm_convnet"),
    "cifar_resnet": EncoderRow("residual:cifar_resnet"),
    "cifar_resnet18": EncoderRow("resnets:cifar_resnet18"),
    "lipschitz_convnet": EncoderRow("lipschitz:lipschitz_convnet"),
    "lipschitz_convnet_large": EncoderRow("lipschitz:lipschitz_convnet", {"size": "large"}),
    "small_convnet": EncoderRow("convnets:small_convnet"),
    "stack": EncoderRow("stacked:stack"),
    "strided_convnet": EncoderRow("convnets:strided_convnet"),
}
