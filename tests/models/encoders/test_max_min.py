"""MaxMin permutes every pair of channels, and hence keeps distances short and gradients long."""

import pytest
import torch

from robustcl.core.errors import InputError
from robustcl.models.encoders import MaxMin

SHAPES = [(5, 6), (3, 4, 2, 3)]


def noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_by_hand() -> None:
    features = torch.tensor([[1.0, 2.0, 5.0, -3.0], [0.0, 0.0, -2.0, -1.0]])
    expected = torch.tensor([[2.0, 1.0, 5.0, -3.0], [0.0, 0.0, -1.0, -2.0]])
    assert torch.equal(MaxMin()(features), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_pair_is_permuted_and_sorted(shape: tuple[int, ...]) -> None:
    features = noise(shape, 0)
    sorted_pairs = MaxMin()(features)
    assert sorted_pairs.shape == features.shape
    before, after = features.unflatten(1, (-1, 2)), sorted_pairs.unflatten(1, (-1, 2))
    assert torch.equal(before.sort(dim=2, descending=True).values, after)


@pytest.mark.parametrize("order", [1.0, 2.0, torch.inf])
def test_distances_do_not_grow(order: float) -> None:
    first, second = noise((2000, 6), 1), noise((2000, 6), 2)
    before = torch.linalg.vector_norm(first - second, order, dim=1)
    after = torch.linalg.vector_norm(MaxMin()(first) - MaxMin()(second), order, dim=1)
    assert bool((after <= before * (1 + 1e-12)).all())
    assert bool((after < before * 0.9).any())  # it does bring some points closer


@pytest.mark.parametrize("shape", SHAPES)
def test_the_norm_of_values_and_gradients_is_kept(shape: tuple[int, ...]) -> None:
    features = noise(shape, 3).requires_grad_()
    weights = noise(shape, 4)
    values = MaxMin()(features)
    (gradient,) = torch.autograd.grad((values * weights).sum(), features)
    sizes = [part.flatten(1).norm(dim=1) for part in (features, values, weights, gradient)]
    torch.testing.assert_close(sizes[0], sizes[1], rtol=1e-12, atol=0)
    torch.testing.assert_close(sizes[2], sizes[3], rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 4), (6,)])
def test_channels_without_a_partner_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="C even"):
        MaxMin()(torch.zeros(shape))
