"""A checkpoint of a random network, and images whose labels are its predictions but for some."""

from pathlib import Path

import numpy as np
import torch

from robustcl.core.classifier import Classifier, Encoder
from robustcl.models.architectures import embedding_size
from robustcl.models.checkpoint import save_checkpoint
from robustcl.models.description import Description
from robustcl.models.encoders import small_convnet
from robustcl.models.heads import LinearHead

ARCHITECTURE = {"channels": 1, "image_size": 8, "width": 4, "embedding_size": 5}


def random_checkpoint(folder: Path, *, count: int = 64) -> tuple[Path, str]:
    """Write both into a folder, each fourth label wrong; return the file and the data's name."""
    torch.manual_seed(0)
    encoder = Encoder(small_convnet(**ARCHITECTURE), image_shape=(1, 8, 8))
    model = Classifier(encoder, LinearHead(torch.randn(3, 5), torch.zeros(3))).eval()
    description = Description(
        architecture="small_convnet",
        arguments=ARCHITECTURE,
        image_shape=(1, 8, 8),
        embedding_size=embedding_size(encoder.backbone, (1, 8, 8)),
    )
    save_checkpoint(folder / "model.safetensors", model, description)
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, size=(count, 8, 8, 1), dtype=np.uint8)
    points = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    labels = model(points).argmax(1).numpy().copy()
    labels[::4] = (labels[::4] + 1) % 3
    np.savez(folder / "data.npz", images=images, labels=labels)
    return folder / "model.safetensors", f"npz:{folder / 'data.npz'}"
