"""Load several checkpoints as the one classifier of their mean score."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from robustcl.commands.load_and_tell import load_and_tell
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.terminal import say
from robustcl.data.class_names import same_classes, some_names


class _Mean(nn.Module):
    # The mean score of several classifiers.

    def __init__(self, members: list[Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([member(images) for member in self.members]).mean(dim=0)


def mean_of(
    members: list[Path], *, arch: str | None, device: str, classes: Sequence[str]
) -> Classifier | None:
    """Load the compute-matched baseline.

    Args:
        members: Checkpoints with a head.
        arch: For checkpoints made from package.module:factory.
        device: Where to compute.
        classes: The class names of the model that the mean is compared with; the members have the
            same, in the same order.

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
    other = next((m for m in models if not same_classes(m.class_names, classes)), None)
    if other is not None:
        raise InputError(
            f"--ensemble {','.join(map(str, members))}: one has the classes "
            f"{some_names(other.class_names)}, the checkpoint {some_names(classes)}; probe all on "
            "the same data"
        )
    for place, model in zip(members, models, strict=True):
        if tuple(model.class_names) != tuple(classes):
            own = some_names(model.class_names)
            say(f"note: classes of {str(place)!r} ({own}) are matched by position, not by name")
    mean = _Mean([model.to(device) for model in models]).eval()
    return Classifier.from_scores(
        mean, image_shape=models[0].image_shape, class_names=classes
    ).to(device)  # fmt: skip
