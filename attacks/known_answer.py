"""Test attacks on models whose answer is known: planted adversarials, and linear scores."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.seeds import example_noise
from robustcl.core.threat import DUAL_ORDERS, Threat, perturbation_norm
from robustcl.models.encoders import small_convnet
from robustcl.models.heads import LinearHead

SHAPE = (1, 8, 8)
_CLASSES = 5
DIFFICULTY = 0.1  # of the way from the best random point to the plant, which must be gone
_SAMPLES = 256  # random points of the ball that must not find the plant


@dataclass(frozen=True, eq=False)
class KnownAnswer:
    """Hold a model, an image, and an adversarial that is known to be there.

    Args:
        classifier: The model, which gives the image class 0.
        image: (1, C, H, W).
        adversarial: (1, C, H, W) in the ball and the box, of class 1.
        threat: The ball.
    """

    classifier: Classifier
    image: Tensor
    adversarial: Tensor
    threat: Threat


def known_answer(norm: Norm, *, eps: float, seed: int = 0) -> KnownAnswer:
    """Plant an adversarial example that random search does not find.

    A random network f maps the image x and a random point x' in the ball. Class 1 scores the
    similarity of the embedding to f(x'), class 0 a constant between that of the best of many
    random points and 1, and the other classes less than any similarity. So x' is of class 1, the
    random points are of class 0, and an attack that finds nothing is broken.

    Args:
        norm: 'l2', 'linf' or 'l1'.
        eps: Budget; x' lies on a sphere of 0.9 eps.
        seed: Seed of the network, the image and the plant.

    Returns:
        The model and the plant.

    Reference:
        Zimmermann et al., Increasing Confidence in Adversarial Robustness Evaluations, NeurIPS
        2022: the same idea, with a classifier fitted to the points.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = small_convnet(channels=1, image_size=8, width=8, embedding_size=16)
    encoder = Encoder(backbone, image_shape=SHAPE, mean=(0.5,), std=(0.25,)).eval()
    noise = example_noise(list(range(seed, seed + _SAMPLES + 2)), SHAPE)
    image = 0.5 + 0.1 * noise[:1].clamp(-2, 2)
    threat = Threat(norm, eps)
    steps = noise[1:].sign()
    if norm != "linf":
        steps = noise[1:] / perturbation_norm(noise[1:], norm).to(noise).view(-1, 1, 1, 1)
    points = threat.project(image.expand_as(steps), image + 0.9 * eps * steps)
    with torch.no_grad():
        embeddings = nn.functional.normalize(encoder(torch.cat([image, points])), dim=1)
    plant = embeddings[1]
    others = torch.cat([embeddings[:1], embeddings[2:]]) @ plant
    bar = (1.0 - DIFFICULTY) * float(others.max()) + DIFFICULTY
    weight = torch.zeros(_CLASSES, embeddings.shape[1])
    weight[1] = plant
    bias = torch.full((_CLASSES,), -2.0)
    bias[0], bias[1] = bar, 0.0
    classifier = Classifier(encoder, LinearHead(weight, bias)).eval()
    return KnownAnswer(classifier, image, points[:1], threat)


def linear_classifier(norm: Norm, *, radius: float, seed: int = 0) -> tuple[Classifier, Tensor]:
    """Make linear scores for which every image is at one known distance from the boundary.

    Class 0 scores 0 and class k scores w_k.(x - 1/2) - radius |w_k|*, where |.|* is the dual norm.
    The image is gray, so the nearest point of class k is at distance `radius`, for each k.

    Args:
        norm: 'l2', 'linf' or 'l1'.
        radius: The distance, below 1/2 so that the box does not matter.
        seed: Seed of the weights.

    Returns:
        The model and the image, (1, C, H, W).
    """
    count = SHAPE[0] * SHAPE[1] * SHAPE[2]
    rows = example_noise([seed + k for k in range(1, _CLASSES)], (count,))
    dual = torch.linalg.vector_norm(rows, DUAL_ORDERS[norm], dim=1)
    rows = torch.cat([torch.zeros(1, count), rows / dual[:, None]])
    layer = nn.Linear(count, _CLASSES)
    with torch.no_grad():
        layer.weight.copy_(rows)
        layer.bias.copy_(-0.5 * rows.sum(dim=1) - radius)
        layer.bias[0] = 0.0
    network = nn.Sequential(nn.Flatten(), layer)
    classifier = Classifier.from_scores(network, image_shape=SHAPE).eval()
    return classifier, torch.full((1, *SHAPE), 0.5)
