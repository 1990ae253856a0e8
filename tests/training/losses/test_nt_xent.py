"""NT-Xent against a loop over its definition."""

import math

import pytest
import torch

from robustcl.core.errors import InputError
from robustcl.training.losses import nt_xent


def slow(first: torch.Tensor, second: torch.Tensor, temperature: float) -> float:
    views = [v / v.norm() for v in torch.cat([first, second])]
    count, total = len(first), 0.0
    for i, view in enumerate(views):
        shares = [math.exp(float(view @ other) / temperature) for other in views]
        partner = (i + count) % (2 * count)
        total -= math.log(shares[partner] / (sum(shares) - shares[i]))
    return total / len(views)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_equals_the_loop(temperature: float) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 6, 5, dtype=torch.float64)
    fast = nt_xent(first, second, temperature=temperature)
    assert float(fast) == pytest.approx(slow(first, second, temperature), rel=1e-10)


def test_is_symmetric_and_ignores_scale() -> None:
    torch.manual_seed(1)
    first, second = torch.randn(2, 5, 4, dtype=torch.float64)
    loss = nt_xent(first, second)
    assert torch.allclose(loss, nt_xent(second, first))
    assert torch.allclose(loss, nt_xent(3.0 * first, 0.1 * second))


def test_identical_embeddings_give_log_of_the_others() -> None:
    same = torch.ones(4, 3)
    assert float(nt_xent(same, same)) == pytest.approx(math.log(7.0), abs=1e-6)


def test_gradient_is_right() -> None:
    torch.manual_seed(2)
    first, second = torch.randn(2, 3, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b), (first, second))


def test_half_precision_is_finite() -> None:
    tiny = torch.full((4, 3), 1e-4, dtype=torch.float16)
    assert torch.isfinite(nt_xent(tiny, tiny))


@pytest.mark.parametrize(
    ("shapes", "temperature"),
    [
        (((4, 3), (5, 3)), 0.5),
        (((1, 3), (1, 3)), 0.5),
        (((4, 3), (4, 3)), 0.0),
        (((4,), (4,)), 0.5),
    ],
)
def test_refuses(shapes: tuple[tuple[int, ...], tuple[int, ...]], temperature: float) -> None:
    with pytest.raises(InputError):
        nt_xent(torch.ones(shapes[0]), torch.ones(shapes[1]), temperature=temperature)
