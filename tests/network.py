"""A small untrained classifier, and images for it."""

import torch
from torch import Tensor

from robustcl.core.classifier import Classifier, Encoder
from robustcl.models.encoders import small_convnet
from robustcl.models.heads import LinearHead, PrototypeHead

SHAPE = (1, 8, 8)


def small_classifier(*, head: str = "prototype", classes: int = 6, seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    backbone = small_convnet(channels=1, image_size=8, width=4, embedding_size=5)
    encoder = Encoder(backbone, image_shape=SHAPE, mean=(0.3,), std=(0.4,))
    weight = torch.randn(classes, 5)
    if head == "prototype":
        return Classifier(encoder, PrototypeHead(weight)).eval()
    return Classifier(encoder, LinearHead(weight, 0.05 * torch.randn(classes))).eval()


def some_images(count: int = 10, *, seed: int = 1) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))
