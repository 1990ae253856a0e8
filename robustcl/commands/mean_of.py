"""Load several checkpoints as the one classifier of their mean score."""

from pathlib import Path

import torch
from torch import Tensor, nn

from robustcl.classifier import Classifier
from robustcl.commands.load_and_tell import load_and_tell
from robustcl.errors import InputError


class _Mean(nn.Module):
    # The mean score of several classifiers.

    def __init__(self, members: list[Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([member(images) for member in self.members]).mean(dim=0)


def mean_of(members: list[Path], *, arch: str | None, device: str) -> Classifier | None:
    """Load the compute-matched baseline.

    Args:
        members: Checkpoints with a head.
        arch: For checkpoints made from package.module:factory.
        device: Where to compute.

    Returns:
        The classifier of their mean score; None without members.

    Raises:
        InputError: When one has no head, or they do not fit together.
    """
    loaded = [load_and_tell(place, arch=arch).classifier for place in members]
    if not loaded:
        return None
    models = [model for model in loaded if model is not None]
    if len(models) < len(loaded) or len({(m.image_shape, m.num_classes) for m in models}) > 1:
        raise InputError(
            f"--ensemble {','.join(map(str, members))}: all need heads, images and classes alike"
        )
    names = models[0].class_names
    mean = _Mean([model.to(device) for model in models]).eval()
    return Classifier.from_scores(
        mean, image_shape=models[0].image_shape, class_names=names
    ).to(device)  # fmt: skip
