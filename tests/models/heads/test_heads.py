"""Each head against its definition."""

import pytest
import torch
from torch.nn import functional

from robustcl.core.errors import InputError
from robustcl.models.heads import PrototypeHead, knn, linear, prototype

LABELS = torch.arange(60) % 3


def points(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(3, 4, generator=generator)
    return centers[LABELS] + 0.4 * torch.randn(60, 4, generator=generator)


def units() -> torch.Tensor:
    return functional.normalize(points(), dim=1)


def test_prototypes_are_normalized_means_of_unit_embeddings() -> None:
    head = prototype(points(), LABELS, num_classes=3)
    for label in range(3):
        mean = units()[label == LABELS].mean(0)
        torch.testing.assert_close(head.weight[label], mean / mean.norm())
    torch.testing.assert_close(head(units()), units() @ head.weight.T)
    assert float(head(head.weight).amax(1).min()) == pytest.approx(1.0)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_probe_is_at_the_optimum(classes: int) -> None:
    labels = LABELS % classes
    head = linear(3 * points(), labels, num_classes=classes, weight_decay=1e-2)
    weight, bias = (part.double().requires_grad_() for part in head.affine())
    scores = units().double() @ weight.T + bias
    # Two classes are fitted by one row, which is then split evenly: |W|^2 of the pair is halved.
    decay = 1e-2 * (1 if classes > 2 else 2)
    loss = functional.cross_entropy(scores, labels) + decay / 2 * weight.square().sum()
    gradients = torch.autograd.grad(loss, (weight, bias))
    assert all(float(gradient.abs().max()) < 1e-4 for gradient in gradients)
    assert float(weight.detach().abs().max()) > 0.5


def test_neighbors_vote_by_similarity() -> None:
    head = knn(points(), LABELS, num_classes=3, k=5, temperature=0.2)
    questions = functional.normalize(points(1), dim=1)
    similar = questions @ units().T
    for row in range(10):
        votes = torch.zeros(3)
        for neighbor in similar[row].sort(descending=True).indices[:5]:
            votes[LABELS[neighbor]] += torch.exp(similar[row, neighbor] / 0.2)
        torch.testing.assert_close(head(questions)[row], votes / votes.sum())


def test_what_cannot_be_fitted_is_refused() -> None:
    for fit in (prototype, linear):
        with pytest.raises(InputError, match="class"):
            fit(points(), LABELS, num_classes=4)
    for fit in (prototype, linear, knn):
        with pytest.raises(InputError, match="label 2 is outside"):
            fit(points(), LABELS, num_classes=2)
    with pytest.raises(InputError, match="prototype of class 1"):
        PrototypeHead(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
