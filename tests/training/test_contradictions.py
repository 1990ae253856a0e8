"""The contradiction meter against loops, and against a model whose answer is known."""

import math

import pytest
import torch

from robustcl.core.errors import InputError
from robustcl.training import contradiction
from robustcl.training.losses import LossBatch, pair_weights, parse_losses
from robustcl.training.losses._nt_xent import nt_xent_of

LABELS = torch.tensor([0, 1, 0, 2, 1, 0])


def batch(labels: torch.Tensor = LABELS) -> LossBatch:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 6, 5, dtype=torch.float64, generator=generator)
    return LossBatch(first, second, labels)


def test_equals_the_loop_over_gradients_of_nt_xent() -> None:
    data, tau = batch(), 0.3
    views = torch.cat([data.first, data.second])
    images = torch.rand(12, 1, 3, 3, generator=torch.Generator().manual_seed(1)).double()
    both = LABELS.repeat(2).tolist()
    everything, same_class, plain, plain_same, events, slopes, pairs = 0.0, 0.0, 0.0, 0.0, [], [], 0
    for i in range(12):
        units = [view / view.norm() for view in views]
        shares = [math.exp(float(units[i] @ unit) / tau) for unit in units]
        for j in range(12):
            if j in (i, (i + 6) % 12):
                continue
            # The gradient of s_ij / tau by u_i, times the share of j.
            anchor = views[i].clone().requires_grad_()
            (slope,) = torch.autograd.grad(anchor @ units[j] / anchor.norm() / tau, anchor)
            weight = shares[j] / (sum(shares) - shares[i])
            size = weight * float(slope.norm())
            everything, plain = everything + size, plain + weight
            if both[i] == both[j]:
                same_class, plain_same, pairs = same_class + size, plain_same + weight, pairs + 1
                events.append(size)
                apart = float((units[i] - units[j]).norm() / (images[i] - images[j]).norm())
                slopes.append(size * apart)
    found = contradiction(pair_weights(parse_losses(f"simclr:temperature={tau}"), data), views,
                          LABELS, images)  # fmt: skip
    assert found.share == pytest.approx(same_class / everything, rel=1e-6)
    assert found.weight_share == pytest.approx(plain_same / plain, rel=1e-6)
    assert found.pairs == pytest.approx(pairs / 120)
    assert found.top == pytest.approx(max(events) / sum(events), rel=1e-6)  # 1 % of 32 is one
    assert found.stretch == pytest.approx(sum(slopes) / sum(events), rel=1e-6)


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_a_negative_weighs_its_share_over_tau(tau: float) -> None:
    data = batch()
    views = torch.cat([data.first, data.second])
    table = (torch.nn.functional.normalize(views, dim=1) @ views.T) / views.norm(dim=1)
    shares = torch.softmax((table / tau).fill_diagonal_(-torch.inf), dim=1)
    wanted = shares / tau
    rows = torch.arange(12)
    wanted[rows, rows.roll(6)] -= 1.0 / tau
    found = pair_weights(parse_losses(f"simclr:temperature={tau}"), data)
    assert torch.allclose(found, wanted)
    half = pair_weights(parse_losses(f"simclr:temperature={tau},weight=.5"), data)
    assert torch.allclose(half, wanted / 2)


@pytest.mark.parametrize(("tau", "wanted"), [(0.5, 0.23), (0.2, 0.58), (0.1, 0.94)])
def test_gaussian_model(tau: float, wanted: float) -> None:
    # training.md: similarities N(m, s^2) to other classes and N(m + 1/2, s^2) to the own class,
    # which holds 10 % of the negatives.
    generator = torch.Generator().manual_seed(2)
    count = 400
    labels = torch.arange(count) % 10
    table = 0.02 * torch.randn(2 * count, 2 * count, generator=generator)
    table += 0.5 * (labels.repeat(2)[:, None] == labels.repeat(2)[None, :])
    logits = (table / tau).fill_diagonal_(-torch.inf).requires_grad_()
    (slope,) = torch.autograd.grad(nt_xent_of(logits), logits)
    views = torch.eye(2 * count)  # the weights alone are under test
    found = contradiction(slope, views, labels)
    assert found.weight_share == pytest.approx(wanted, abs=0.015)


@pytest.mark.parametrize("loss", ["suncet", "filter:action=drop,threshold=1,confidence=.5"])
def test_label_aware_losses_do_not_contradict(loss: str) -> None:
    data = batch()
    data = LossBatch(data.first, data.second, LABELS, prototypes=torch.eye(3, 5).double())
    views = torch.cat([data.first, data.second])
    assert contradiction(pair_weights(parse_losses(loss), data), views, LABELS).share == 0.0
    assert contradiction(pair_weights(parse_losses("simclr"), data), views, LABELS).share > 0.1


def test_sup_con_repels_a_near_duplicate_and_suncet_does_not() -> None:
    views = torch.tensor([[1.0, 0.0], [1.0, 0.02], [0.0, 1.0], [-1.0, 0.3]], dtype=torch.float64)
    data = LossBatch(views, views, torch.tensor([0, 0, 0, 1]))
    weights = {
        loss: float(pair_weights(parse_losses(f"{loss}:temperature=.1"), data)[0, 1])
        for loss in ("supcon", "suncet")
    }
    assert weights["supcon"] > 0.1 and weights["suncet"] <= 0.0


def test_weights_of_a_sum_are_sums() -> None:
    data = batch(torch.tensor([0, 1, 0, -1, -1, 0]))
    text = "simclr:weight=.5+suncet:weight=2+debiased+hard_negative+filter:top_k=2"
    parts = sum(pair_weights(parse_losses(part), data) for part in text.split("+"))
    whole = pair_weights(parse_losses(text), data)
    assert isinstance(parts, torch.Tensor) and torch.allclose(whole, parts)
    assert torch.isfinite(whole).all() and whole.diagonal().abs().max() == 0


def test_refuses_shapes() -> None:
    with pytest.raises(InputError, match="do not fit"):
        contradiction(torch.zeros(4, 4), torch.ones(4, 2), torch.zeros(3, dtype=torch.long))
