"""SuNCEt against a loop over its definition."""

import pytest
import torch

from robustcl.training.losses import nt_xent, suncet
from tests.training.losses.slow import assert_equal_with_gradients, points, slow_suncet


@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1, 0], [0, -1, 0, -1, 1, -1]])
def test_equals_the_loop(labels: list[int]) -> None:
    first, second = points(0)
    fast = suncet(first, second, torch.tensor(labels), temperature=0.2)
    assert_equal_with_gradients(fast, slow_suncet(first, second, labels, 0.2), first, second)


def test_unlabeled_images_do_not_enter() -> None:
    first, second = points(1)
    labels = torch.tensor([0, 1, -1, 0, -1, 1])
    known = labels >= 0
    loss = suncet(first, second, labels)
    assert torch.allclose(loss, suncet(first[known], second[known], labels[known]))
    gradient = torch.autograd.grad(loss, first)[0]
    assert gradient[~known].abs().max() == 0 and bool((gradient[known].norm(dim=1) > 0).all())


def test_distinct_labels_give_nt_xent() -> None:
    first, second = points(2)
    loss = suncet(first, second, torch.arange(6), temperature=0.5)
    assert torch.allclose(loss, nt_xent(first, second))


@pytest.mark.parametrize("labels", [[-1, -1, -1], [2, 2, 2], [2, -1, -1]])
def test_nothing_to_tell_apart_gives_zero(labels: list[int]) -> None:
    first, second = points(3, 3)
    loss = suncet(first, second, torch.tensor(labels))
    assert float(loss) == pytest.approx(0.0, abs=1e-12)
    assert torch.isfinite(torch.autograd.grad(loss, first)[0]).all()


def test_gradient_is_right() -> None:
    labels = torch.tensor([0, 0, 1, -1])
    assert torch.autograd.gradcheck(lambda a, b: suncet(a, b, labels), points(4, 4, 3))
