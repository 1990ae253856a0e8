"""The largest drift of a linear encoder is known: a singular value, or the best corner."""

import itertools

import pytest
import torch
from torch import nn

from robustcl import attacks
from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective, displace, misclassify
from robustcl.core.threat import Threat

SHAPE = (1, 2, 4)
EPS = 0.05


def linear_encoder() -> tuple[Classifier, torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    layer = nn.Linear(8, 5, dtype=torch.float64)
    model = Classifier.from_scores(nn.Sequential(nn.Flatten(), layer), image_shape=SHAPE).double()
    images = 0.2 + 0.6 * torch.rand(6, *SHAPE, dtype=torch.float64)
    return model, images, layer.weight.detach()


def largest_drift(weight: torch.Tensor, norm: Norm) -> float:
    if norm == "l2":
        return EPS * float(torch.linalg.matrix_norm(weight, 2))
    if norm == "l1":
        return EPS * float(torch.linalg.vector_norm(weight, dim=0).max())
    corners = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=8)), dtype=torch.float64)
    return EPS * float(torch.linalg.vector_norm(corners @ weight.T, dim=1).max())


@pytest.mark.parametrize("norm, share", [("l2", 0.999), ("linf", 0.999), ("l1", 0.999)])
def test_the_largest_drift_of_a_linear_encoder_is_reached(norm: Norm, share: float) -> None:
    model, images, weight = linear_encoder()
    most = largest_drift(weight, norm)
    for factor, wanted in ((share, True), (1.0001, False)):
        objective = displace(model, images, threshold=factor * most)
        result = attacks.run_attack(
            "embedding_shift",
            objective,
            images,
            Threat(norm, EPS),
            restarts=24,
            steps=40,
            batch_size=6,
        )
        assert bool((result.success == wanted).all()), factor
        assert bool((result.gradients == 24 * 41).all())


def test_labels_are_not_looked_at() -> None:
    model, images, _ = linear_encoder()
    first = misclassify(model, torch.zeros(6, dtype=torch.int64))
    second = misclassify(model, torch.full((6,), 4))
    threat = Threat("l2", EPS)
    options = {"seeds": list(range(6)), "steps": 20}
    one = attacks.embedding_shift(first, images, threat, **options)
    other = attacks.embedding_shift(second, images, threat, **options)
    assert torch.equal(one.candidates, other.candidates)


def test_an_objective_without_an_encoder_is_refused() -> None:
    _, images, _ = linear_encoder()
    bare = Objective(lambda points: points.flatten(1).sum(dim=1))
    with pytest.raises(InputError, match="needs an encoder"):
        attacks.run_attack("embedding_shift", bare, images, Threat("l2", EPS))
