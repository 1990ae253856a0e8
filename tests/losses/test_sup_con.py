"""SupCon against a loop over its definition."""

import math

import pytest
import torch

from robustcl.errors import InputError
from robustcl.losses import nt_xent, sup_con


def test_equals_the_loop() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 6, 5, dtype=torch.float64)
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    views = [v / v.norm() for v in torch.cat([first, second])]
    both, total, tau = labels.tolist() * 2, 0.0, 0.2
    for i, view in enumerate(views):
        shares = [math.exp(float(view @ other) / tau) for other in views]
        others = sum(shares) - shares[i]
        positives = [j for j in range(12) if j != i and both[j] == both[i]]
        total -= sum(math.log(shares[p] / others) for p in positives) / len(positives)
    loss = sup_con(first, second, labels, temperature=tau)
    assert float(loss) == pytest.approx(total / 12, rel=1e-10)


def test_distinct_labels_give_nt_xent() -> None:
    torch.manual_seed(1)
    first, second = torch.randn(2, 5, 4, dtype=torch.float64)
    loss = sup_con(first, second, torch.arange(5), temperature=0.3)
    assert torch.allclose(loss, nt_xent(first, second, temperature=0.3))


def test_gradient_is_finite_and_right() -> None:
    torch.manual_seed(2)
    first, second = torch.randn(2, 3, 4, dtype=torch.float64).requires_grad_()
    labels = torch.tensor([0, 0, 1])
    assert torch.autograd.gradcheck(lambda a, b: sup_con(a, b, labels), (first, second))


def test_refuses_labels_of_another_length() -> None:
    with pytest.raises(InputError, match="labels of shape"):
        sup_con(torch.ones(3, 2), torch.ones(3, 2), torch.zeros(4, dtype=torch.long))
