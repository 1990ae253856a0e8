"""The Lipschitz linear head: rows of norm 1 at most, and radii that scaling cannot buy."""

import pytest
import torch

from robustcl.certify import product
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError
from robustcl.models.encoders import lipschitz_convnet
from robustcl.models.heads import lipschitz_linear, prototype


def clouds(scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(3, 8, generator=generator) * 2.0
    labels = torch.arange(3).repeat_interleave(50)
    points = centers[labels] + 1.2 * torch.randn(150, 8, generator=generator)
    return scale * points, labels


def loss(weight: torch.Tensor, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    lead = torch.nn.functional.one_hot(labels, 3)
    return torch.nn.functional.cross_entropy((points @ weight.T - lead) / 0.25, labels)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_rows_are_no_longer_than_one(scale: float) -> None:
    head = lipschitz_linear(*clouds(scale), num_classes=3)
    assert float(head.weight.double().norm(dim=1).max()) <= 1.0
    assert not bool(head.bias.any())


def test_no_other_rows_are_better() -> None:
    points, labels = clouds()
    weight = lipschitz_linear(points, labels, num_classes=3).weight
    best = float(loss(weight, points, labels))
    assert best < float(loss(prototype(points, labels, num_classes=3).weight, points, labels))
    for seed in range(30):
        torch.manual_seed(seed)
        other = weight + 0.05 * torch.randn(3, 8)
        other = other / other.norm(dim=1, keepdim=True).clamp_min(1.0)
        assert float(loss(other, points, labels)) > best - 1e-4


def test_the_certificate_uses_the_pair_s_own_norm() -> None:
    torch.manual_seed(0)
    network = lipschitz_convnet(channels=1, image_size=8, width=8, hidden=8, embedding_size=8)
    encoder = Encoder(network, image_shape=(1, 8, 8)).eval()
    images = torch.rand(30, 1, 8, 8)
    with torch.no_grad():
        raw = encoder(images)
    head = lipschitz_linear(raw, torch.arange(30) % 3, num_classes=3)
    claim = product(Classifier(encoder, head).eval(), images)
    scores = raw.double() @ head.weight.double().T
    top = scores.argmax(dim=1)
    norms = (head.weight[top][:, None] - head.weight[None]).double().norm(dim=2)
    radii = (scores.gather(1, top[:, None]) - scores) / norms
    radii[torch.arange(30), top] = torch.inf
    torch.testing.assert_close(claim.radius, radii.amin(dim=1), rtol=1e-4, atol=1e-6)


def test_wrong_input_is_refused() -> None:
    points, labels = clouds()
    with pytest.raises(InputError, match="2 of 3"):
        lipschitz_linear(points[:100], labels[:100], num_classes=3)
    with pytest.raises(InputError, match="temperature 0"):
        lipschitz_linear(points, labels, num_classes=3, temperature=0.0)
