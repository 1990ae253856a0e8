"""Losses of raw embeddings against loops over their definitions."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from robustcl.core.errors import InputError
from robustcl.training.losses import (
    batch_prototypes,
    margin_suncet,
    parse_losses,
    suncet,
    weighted_sum,
)
from robustcl.training.losses.sums import LossBatch
from tests.training.losses.slow import assert_equal_with_gradients, points

LABELS = [[0, 1, 0, 2, 1, 0], [0, -1, 0, -1, 1, -1], [-1] * 6]


def slow_batch_prototypes(
    first: Tensor, second: Tensor, labels: list[int], margin: float, tau: float, normalize: bool
) -> Tensor:
    views = [*torch.cat([first, second])]
    groups = [("class", k) if k >= 0 else ("image", i) for i, k in enumerate(labels)] * 2
    losses = []
    for i, view in enumerate(views):
        logits = {}
        for group in set(groups):
            members = [k for k in range(len(views)) if groups[k] == group and k != i]
            mean = sum(views[k] / views[k].norm() for k in members)
            assert isinstance(mean, Tensor)
            anchor = view / view.norm() if normalize else view
            lead = margin if group == groups[i] else 0.0
            logits[group] = (anchor @ (mean / mean.norm()) - lead) / tau
        everyone = torch.logsumexp(torch.stack([*logits.values()]), dim=0)
        losses.append(everyone - logits[groups[i]])
    return torch.stack(losses).mean()


def slow_margin_suncet(
    first: Tensor, second: Tensor, labels: list[int], margin: float, tau: float, normalize: bool
) -> Tensor:
    views, both = [*torch.cat([first, second])], labels * 2
    known = [i for i in range(len(views)) if both[i] >= 0]
    total = torch.zeros((), dtype=torch.float64)
    for i in known:
        anchor = views[i] / views[i].norm() if normalize else views[i]
        shares = {}
        for k in known:
            if k != i:
                lead = margin if both[k] == both[i] else 0.0
                similarity = anchor @ (views[k] / views[k].norm())
                shares[k] = torch.exp((similarity - lead) / tau)
        same = [share for k, share in shares.items() if both[k] == both[i]]
        total = total - torch.log(torch.stack(same).sum() / torch.stack([*shares.values()]).sum())
    return total / max(len(known), 1)


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    ("fast", "slow"),
    [(batch_prototypes, slow_batch_prototypes), (margin_suncet, slow_margin_suncet)],
)
def test_equals_the_loop(
    labels: list[int], normalize: bool, fast: Callable[..., Tensor], slow: Callable[..., Tensor]
) -> None:
    if fast is margin_suncet and max(labels) < 0:
        labels = [0, 1, -1, -1, 1, 0]
    first, second = points(0)
    options = {"margin": 0.3, "temperature": 0.4, "normalize": normalize}
    found = fast(first, second, torch.tensor(labels), **options)
    expected = slow(first, second, labels, 0.3, 0.4, normalize)
    assert_equal_with_gradients(found, expected, first, second)


def test_without_margin_on_the_sphere_it_is_suncet() -> None:
    first, second = points(1)
    labels = torch.tensor([0, 1, -1, 0, -1, 1])
    found = margin_suncet(first, second, labels, margin=0.0, temperature=0.2, normalize=True)
    torch.testing.assert_close(found, suncet(first, second, labels, temperature=0.2))


@pytest.mark.parametrize("loss", [batch_prototypes, margin_suncet])
def test_a_longer_embedding_reaches_the_margin(loss: Callable[..., Tensor]) -> None:
    # Scaling changes nothing on the sphere; here length is what a radius is made of.
    first = torch.eye(4, dtype=torch.float64).repeat(2, 1)
    labels = torch.arange(4).repeat(2)
    losses = [float(loss(size * first, size * first, labels)) for size in (0.5, 1.0, 2.0, 4.0)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 1e-3 + 0.01 * losses[0]


@pytest.mark.parametrize("loss", [batch_prototypes, margin_suncet])
def test_gradient_is_right(loss: Callable[..., Tensor]) -> None:
    labels = torch.tensor([0, 0, 1, -1])
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, labels), points(4, 4, 3))


@pytest.mark.parametrize("loss", [batch_prototypes, margin_suncet])
def test_wrong_options_are_refused(loss: Callable[..., Tensor]) -> None:
    first, second = points(5)
    labels = torch.zeros(6, dtype=torch.long)
    with pytest.raises(InputError, match="margin -1"):
        loss(first, second, labels, margin=-1.0)
    with pytest.raises(InputError, match="temperature 0"):
        loss(first, second, labels, temperature=0.0)
    with pytest.raises(InputError, match="labels of shape"):
        loss(first, second, labels[:3])
    with pytest.raises(InputError, match="same shape"):
        loss(first, second[:3], labels)


def test_a_sum_hands_the_options_on() -> None:
    first, second = points(6)
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    terms = parse_losses("batch_prototypes:margin=.5,temperature=.3,weight=2+margin_suncet")
    total, parts = weighted_sum(terms, LossBatch(first, second, labels))
    one = batch_prototypes(first, second, labels, margin=0.5, temperature=0.3)
    two = margin_suncet(first, second, labels)
    assert set(parts) == {"batch_prototypes", "margin_suncet"}
    torch.testing.assert_close(total, 2.0 * one + two)
