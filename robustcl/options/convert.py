"""State the options of `robustcl convert`."""

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Make a checkpoint from a weight file (.safetensors, or .pt/.pth without code).

    Args:
        weights: The weight file; prefixes such as module., backbone., encoder. are stripped.
        arch: torchvision:NAME, timm:NAME, timm:NAME.TAG, cifar_resnet18, small_convnet,
            strided_convnet, or package.module:factory, whose code is run.
        out: The checkpoint, ending in .safetensors.
        arguments: Keyword arguments of the architecture, as JSON.
        input_size: Side in pixels, or CxHxW.
        mean: Channel means of the network's input normalization, as in .485,.456,.406, or a word
            for both mean and std: imagenet, none. By default those in the weight file, or of timm's
            configuration; where neither knows, none, with a warning.
        std: Channel standard deviations.
        allow_partial: Go on where tensors are missing or left over.
        overwrite: Replace an existing checkpoint.
        json: Write one JSON object on stdout.
    """

    weights: tyro.conf.Positional[Path]
    arch: str
    out: Path
    arguments: str = "{}"
    input_size: str = "224"
    mean: str | None = None
    std: str | None = None
    allow_partial: bool = False
    overwrite: bool = False
    json: bool = False
