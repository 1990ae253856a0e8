"""The semantic loss against a loop over its definition."""

import pytest
import torch

from robustcl.core.errors import InputError
from robustcl.training.losses import semantic
from tests.training.losses.slow import assert_equal_with_gradients, points

LABELS = [0, -1, 2, 1, -1, 2]


def slow(first: torch.Tensor, second: torch.Tensor, targets: torch.Tensor, form: str):
    words, losses = [word / word.norm() for word in targets], []
    for view, label in zip(torch.cat([first, second]), LABELS * 2, strict=True):
        if label < 0:
            continue
        cosines = [view @ word / view.norm() for word in words]
        shares = [torch.exp(cosine / 0.2) for cosine in cosines]
        share = shares[label] / sum(shares)
        losses.append(1 - cosines[label] if form == "cosine" else -torch.log(share))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("form", ["cross_entropy", "cosine"])
def test_equals_the_loop(form) -> None:
    first, second = points(0)
    targets = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    fast = semantic(first, second, torch.tensor(LABELS), targets, temperature=0.2, form=form)
    assert_equal_with_gradients(fast, slow(first, second, targets, form), first, second)


def test_no_label_gives_zero_with_a_gradient() -> None:
    first, second = points(1)
    loss = semantic(first, second, torch.full((6,), -1), torch.eye(5))
    assert float(loss) == 0.0
    assert torch.equal(torch.autograd.grad(loss, first)[0], torch.zeros_like(first))


def test_gradient_is_right() -> None:
    labels, targets = torch.tensor([0, -1, 1]), torch.eye(4, dtype=torch.float64)
    check = torch.autograd.gradcheck
    assert check(lambda a, b: semantic(a, b, labels, targets), points(2, 3, 4))


@pytest.mark.parametrize(
    ("labels", "targets", "message"),
    [
        ([0, 1, 3], (3, 4), "label 3 has no target"),
        ([0, 1, 2], (3, 5), "embed_targets"),
        ([0, 1], (3, 4), "labels of shape"),
    ],
)
def test_refuses(labels: list[int], targets: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        semantic(*points(3, 3, 4), torch.tensor(labels), torch.ones(targets))


@pytest.mark.parametrize("normalize", [False, True])
def test_the_margin_is_taken_from_the_own_class(normalize: bool) -> None:
    first, second = points(7)
    labels, targets = torch.tensor([0, 1, -1, 0, 2, 1]), torch.eye(3, 5, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for views in (first, second):
        for view, label in zip(views, labels, strict=True):
            if label >= 0:
                scores = (view / view.norm() if normalize else view) @ targets.T
                lead = 0.7 * torch.nn.functional.one_hot(label, 3)
                total = total - torch.log_softmax((scores - lead) / 0.4, dim=0)[label]
    options = {"margin": 0.7, "temperature": 0.4, "normalize": normalize}
    found = semantic(first, second, labels, targets, **options)
    torch.testing.assert_close(found, total / 10)
    with pytest.raises(InputError, match="cosine"):
        semantic(first, second, labels, targets, form="cosine", normalize=False)
