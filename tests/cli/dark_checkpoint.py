"""A checkpoint whose embedding of a black image is 0, and data with black images in them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from robustcl.core.classifier import Classifier, Encoder
from robustcl.models.architectures import embedding_size
from robustcl.models.checkpoint import save_checkpoint
from robustcl.models.description import Description
from robustcl.models.encoders import small_convnet
from robustcl.models.heads import LinearHead
from tests.cli.random_checkpoint import ARCHITECTURE

BLACK = (5, 20)  # of class 0, which argmax gives where all scores are NaN


def dark_checkpoint(
    folder: Path, *, count: int = 40, black: Sequence[int] = BLACK
) -> tuple[Path, str]:
    """Write both into a folder, each fourth label wrong; return the file and the data's name."""
    torch.manual_seed(0)
    encoder = Encoder(small_convnet(**ARCHITECTURE), image_shape=(1, 8, 8)).eval()
    with torch.no_grad():
        for name, value in encoder.named_parameters():
            if name.endswith("bias"):
                value.zero_()  # without offsets h is homogeneous, so h(0) = 0
    weight = torch.randn(3, 5)
    images = np.random.default_rng(0).integers(1, 256, size=(count, 8, 8, 1), dtype=np.uint8)
    points = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        seen = torch.nn.functional.normalize(encoder(points), dim=1)
    middle = torch.nn.functional.normalize(seen.mean(dim=0), dim=0)
    weight = weight - weight @ middle[:, None] * middle  # so that not all images get one class
    model = Classifier(encoder, LinearHead(weight, torch.zeros(3))).eval()
    labels = model(points).argmax(dim=1).numpy().copy()
    labels[::4] = (labels[::4] + 1) % 3
    images[list(black)], labels[list(black)] = 0, 0
    size = embedding_size(encoder.backbone, (1, 8, 8))
    about = Description("small_convnet", ARCHITECTURE, image_shape=(1, 8, 8), embedding_size=size)
    save_checkpoint(folder / "dark.safetensors", model, about)
    np.savez(folder / "dark.npz", images=images, labels=labels)
    return folder / "dark.safetensors", f"npz:{folder / 'dark.npz'},split=all"
