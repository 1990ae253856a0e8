"""The product certificate: never beaten, invariant, and above every sampled slope."""

from typing import get_args

import pytest
import torch
from torch import nn

from robustcl import attacks
from robustcl.certify import (
    Claim,
    certified_radius,
    jacobian_norm,
    output_gradients,
    product,
    smoothing,
)
from robustcl.certify.bounds import network_lipschitz_bound
from robustcl.core.choices import CertifiedNorm
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import UnsupportedError
from robustcl.core.objectives import misclassify
from robustcl.models.encoders import cifar_resnet18
from robustcl.models.heads import LinearHead, PrototypeHead
from tests.network import small_classifier, some_images

NORMS = get_args(CertifiedNorm)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("head", ["prototype", "linear"])
def test_no_attack_beats_it(head: str, norm: CertifiedNorm) -> None:
    model, images = small_classifier(head=head), some_images()
    claim = product(model, images, norm=norm)
    result = attacks.attacked_radius(
        "pgd",
        misclassify(model, claim.predicted),
        images,
        norm=norm,
        eps_grid=[0.02, 0.1, 0.5, 2.0],
        box=None,
        batch_size=16,
    )
    assert bool((claim.radius > 0).any())
    assert bool((claim.radius <= result.radius * (1 + 1e-6)).all())


def test_classes_may_be_permuted() -> None:
    model, images = small_classifier(), some_images()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    assert isinstance(model.head, PrototypeHead)
    permuted = Classifier(model.encoder, PrototypeHead(model.head.weight[order]))
    before, after = product(model, images), product(permuted, images)
    torch.testing.assert_close(before.radius, after.radius, rtol=1e-6, atol=0)
    assert torch.equal(order[after.predicted], before.predicted)


@pytest.mark.parametrize("norm", NORMS)
def test_bounds_sampled_jacobians_of_a_resnet(norm: CertifiedNorm) -> None:
    torch.manual_seed(0)
    encoder = Encoder(cifar_resnet18(), image_shape=(3, 8, 8), std=(0.5,)).eval()
    for part in encoder.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.uniform_(0.5, 2.0)  # pyright: ignore[reportOptionalMemberAccess]
            nn.init.uniform_(part.weight, 0.5, 1.5)
    directions = torch.randn(3, 512, dtype=torch.float64)
    points = torch.rand(2, 3, 8, 8)
    _, slopes = output_gradients(lambda x: encoder(x) @ directions.float().T, points)
    sizes = torch.linalg.vector_norm(slopes.flatten(2).double(), 2 if norm == "l2" else 1, dim=2)
    assert bool((sizes <= network_lipschitz_bound(encoder, norm=norm).along(directions)).all())


def test_a_folded_batch_norm_counts() -> None:
    layers = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2), nn.Flatten())
    nn.init.constant_(layers[0].weight, 1.0)  # pyright: ignore[reportArgumentType]
    nn.init.constant_(layers[1].weight, 10.0)  # pyright: ignore[reportArgumentType]
    bound = network_lipschitz_bound(Encoder(layers, image_shape=(1, 3, 3))).total
    assert bound == pytest.approx(10.0 * 2**0.5, rel=1e-4)


def test_what_is_unsupported_is_named_with_its_place() -> None:
    layers = nn.Sequential(nn.Conv2d(1, 2, 1), nn.GroupNorm(1, 2), nn.Flatten())
    encoder = Encoder(layers, image_shape=(1, 3, 3))
    with pytest.raises(UnsupportedError, match=r"'group_norm'.*'1'.*smoothing"):
        network_lipschitz_bound(encoder)


def test_the_model_is_left_as_it_was() -> None:
    model, images = small_classifier(head="linear"), some_images(3)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for call in (product, jacobian_norm, smoothing, certified_radius):
        assert isinstance(call(model, images), Claim)
    assert model.training and all(part.training for part in model.modules())
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_mapped_gradients_equal_looped_ones() -> None:
    model, images = small_classifier(), some_images(4)
    loop, mapped = (output_gradients(model, images, strategy=s) for s in ("loop", "vmap"))
    torch.testing.assert_close(loop[1], mapped[1])


@pytest.mark.parametrize("seed", range(5))
def test_a_probe_on_the_circle_is_certified_exactly(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    turn = nn.Linear(2, 2, bias=False)
    turn.weight.data = torch.tensor([[0.6, -0.8], [0.8, 0.6]])  # a rotation: h moves as x does
    encoder = Encoder(nn.Sequential(nn.Flatten(), turn), image_shape=(1, 1, 2), mean=(0.5,))
    weight = torch.randn(3, 2, generator=generator)
    bias = 0.8 * torch.randn(3, generator=generator)
    model = Classifier(encoder, LinearHead(weight, bias)).eval()
    images = (0.5 + 0.2 * torch.randn(20, 1, 1, 2, generator=generator)).clamp(0.0, 1.0)
    claim = product(model, images)
    # By hand: h loses on some rays from 0; the distance to the nearest of them, on a fine grid.
    angles = torch.linspace(0, 2 * torch.pi, 400_001, dtype=torch.float64)
    rays = torch.stack([angles.cos(), angles.sin()], 1)
    scores = rays @ weight.double().T + bias.double()
    for row, raw in enumerate(encoder(images).detach().double()):
        own = scores[:, claim.predicted[row]]
        lost = rays[(scores > own[:, None]).any(1)]
        along = lost @ raw
        away = (raw.norm() ** 2 - along.clamp(min=0) ** 2).clamp(min=0).sqrt()
        # A class that loses nowhere can still be lost at h = 0, where the sphere ends.
        exact = float(away.min()) if len(away) else float(raw.norm())
        assert float(claim.radius[row]) <= exact + 1e-4
        assert float(claim.radius[row]) >= exact * (1 - 1e-3) - 1e-4
