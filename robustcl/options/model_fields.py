"""State the options that say what a model is, beside where it lies."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ModelFields:
    """Say how a model is read that is no checkpoint of robustcl; a checkpoint states all this.

    Args:
        arch: Architecture of a weight file: torchvision:NAME, timm:NAME, timm:NAME.TAG,
            cifar_resnet, cifar_resnet18, stack:ACTIVATION,stride=N,padding=N, or FILE.py:factory
            or package.module:factory, whose code is run. By default it is recognised.
        arguments: Keyword arguments of the architecture, as JSON.
        network: Which of several networks in a file, as in teacher or 'state_dict[0]'.
        input_size: Side of the images in pixels, or CxHxW; by default what is known of the model.
        mean: Channel means of the model's input normalization, as in .485,.456,.406, or a word for
            both mean and std: imagenet, none. By default those in the weight file, or of the
            model's configuration; where neither knows, none, with a warning.
        std: Channel standard deviations.
    """

    arch: str | None = None
    arguments: str = "{}"
    network: str | None = None
    input_size: str | None = None
    mean: str | None = None
    std: str | None = None
