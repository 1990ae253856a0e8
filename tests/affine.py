"""A classifier whose radii are known in closed form: scores affine in the image."""

import torch
from torch import Tensor, nn

from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier
from robustcl.core.threat import DUAL_ORDERS

SHAPE = (2, 4, 4)


def affine_classifier(
    classes: int = 5, *, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Classifier:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(32, classes)).to(dtype)
    return Classifier.from_scores(network, image_shape=SHAPE, mean=(0.4,), std=(0.5,)).to(dtype)


def exact_distance(classifier: Classifier, images: Tensor, norm: Norm) -> Tensor:
    """Distance to the nearest of all boundaries, without the pixel box."""
    layer = classifier.encoder.backbone[1]  # pyright: ignore[reportIndexIssue]
    weight = layer.weight.detach().double() / 0.5
    scores = classifier(images).detach().double()
    top = scores.argmax(1)
    gaps = scores.gather(1, top[:, None]) - scores
    slopes = torch.linalg.vector_norm(weight[top][:, None] - weight, DUAL_ORDERS[norm], dim=2)
    ratio = gaps / slopes
    return ratio.nan_to_num(nan=torch.inf).min(1).values
