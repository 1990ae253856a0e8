"""The debiased loss against a loop over its definition."""

import pytest
import torch

from robustcl.core.errors import InputError
from robustcl.training.losses import debiased, nt_xent
from tests.training.losses.slow import assert_equal_with_gradients, points, slow_hard_negative


@pytest.mark.parametrize("prior", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_equals_the_loop(prior: float, tau: float) -> None:
    first, second = points(0)
    fast = debiased(first, second, temperature=tau, class_prior=prior)
    slow = slow_hard_negative(first, second, tau, prior, 0.0)
    assert_equal_with_gradients(fast, slow, first, second)


def test_the_floor_is_reached_in_these_cases() -> None:
    first = points(0)[0].detach()
    # Equal views make P as large as it gets, so that the correction exceeds the sum.
    fast = debiased(first, first, temperature=0.1, class_prior=0.5)
    slow = slow_hard_negative(first, first, 0.1, 0.5, 0.0)
    assert torch.allclose(fast, slow) and float(fast) < 1e-6


def test_no_prior_gives_nt_xent() -> None:
    first, second = points(1)
    assert torch.allclose(debiased(first, second, class_prior=0.0), nt_xent(first, second))


def test_a_small_temperature_does_not_overflow() -> None:
    first, second = (view.detach().float().requires_grad_() for view in points(2))
    loss = debiased(first, second, temperature=0.005)
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, first)[0]).all()


def test_gradient_is_right() -> None:
    assert torch.autograd.gradcheck(lambda a, b: debiased(a, b), points(3, 3, 4))


@pytest.mark.parametrize("prior", [1.0, -0.1])
def test_refuses_a_prior_outside(prior: float) -> None:
    with pytest.raises(InputError, match="class_prior"):
        debiased(*points(4), class_prior=prior)
