"""SupCon against a loop over its definition."""

import pytest
import torch

from robustcl.core.errors import InputError
from robustcl.training.losses import nt_xent, sup_con
from tests.training.losses.slow import assert_equal_with_gradients, points, slow_sup_con


@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1, 0], [0, -1, 0, -1, 1, -1]])
@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_equals_the_loop(labels: list[int], tau: float) -> None:
    first, second = points(0)
    fast = sup_con(first, second, torch.tensor(labels), temperature=tau)
    assert_equal_with_gradients(fast, slow_sup_con(first, second, labels, tau), first, second)


@pytest.mark.parametrize("labels", [torch.arange(5), torch.full((5,), -1)])
def test_distinct_or_unknown_labels_give_nt_xent(labels: torch.Tensor) -> None:
    first, second = points(1, 5)
    loss = sup_con(first, second, labels, temperature=0.3)
    assert torch.allclose(loss, nt_xent(first, second, temperature=0.3))


def test_gradient_is_right() -> None:
    labels = torch.tensor([0, 0, 1])
    assert torch.autograd.gradcheck(lambda a, b: sup_con(a, b, labels), points(2, 3, 4))


@pytest.mark.parametrize("labels", [torch.zeros(4, dtype=torch.long), torch.zeros(3)])
def test_refuses_labels_that_do_not_fit(labels: torch.Tensor) -> None:
    with pytest.raises(InputError, match="labels of shape"):
        sup_con(torch.ones(3, 2), torch.ones(3, 2), labels)
