"""The hard-negative loss against a loop over its definition."""

import pytest
import torch

from robustcl.core.errors import InputError
from robustcl.training.losses import debiased, hard_negative, nt_xent
from tests.training.losses.slow import assert_equal_with_gradients, points, slow_hard_negative


@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("prior", [0.0, 0.2])
def test_equals_the_loop(beta: float, prior: float) -> None:
    first, second = points(0)
    fast = hard_negative(first, second, temperature=0.3, class_prior=prior, beta=beta)
    slow = slow_hard_negative(first, second, 0.3, prior, beta)
    assert_equal_with_gradients(fast, slow, first, second)


def test_relatives() -> None:
    first, second = points(1)
    loss = hard_negative(first, second, beta=0.0, class_prior=0.3)
    assert torch.allclose(loss, debiased(first, second, class_prior=0.3))
    loss = hard_negative(first, second, beta=0.0, class_prior=0.0)
    assert torch.allclose(loss, nt_xent(first, second))


def test_grows_with_beta() -> None:
    losses = [float(hard_negative(*points(2), beta=beta)) for beta in (0.0, 1.0, 4.0)]
    assert losses == sorted(losses) and losses[0] < losses[2]


def test_gradient_is_right() -> None:
    assert torch.autograd.gradcheck(lambda a, b: hard_negative(a, b), points(3, 3, 4))


def test_refuses_a_negative_beta() -> None:
    with pytest.raises(InputError, match="beta"):
        hard_negative(*points(4), beta=-1.0)
