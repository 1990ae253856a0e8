"""Cross-entropy on a learned class layer, against a loop and against what a linear layer does."""

import pytest
import torch
from torch import nn

from robustcl.core.errors import InputError
from robustcl.training.losses import (
    LossBatch,
    cross_entropy,
    pair_weights,
    parse_losses,
    weighted_sum,
)
from tests.training.losses.slow import assert_equal_with_gradients, points

LABELS = [0, -1, 2, 1, -1, 2]


def layer(classes: int = 3, size: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    table = torch.randn(classes, size + 1, dtype=torch.float64, generator=generator)
    return table[:, 1:].clone().requires_grad_(), table[:, 0].clone().requires_grad_()


def slow(first: torch.Tensor, second: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor):
    losses = []
    for view, label in zip(torch.cat([first, second]), LABELS * 2, strict=True):
        if label < 0:
            continue
        shares = [torch.exp((view @ weight[k] + bias[k]) / 0.7) for k in range(3)]
        losses.append(-torch.log(shares[label] / sum(shares)))
    return torch.stack(losses).mean()


def test_equals_the_loop() -> None:
    (first, second), (weight, bias) = points(0), layer()
    fast = cross_entropy(first, second, torch.tensor(LABELS), weight, bias, temperature=0.7)
    assert_equal_with_gradients(
        fast, slow(first, second, weight, bias), first, second, weight, bias
    )


def test_the_norm_of_the_embedding_counts() -> None:
    # Unlike every contrastive loss, which sees the sphere only.
    (first, second), (weight, bias), labels = points(1), layer(), torch.tensor(LABELS)
    one = cross_entropy(first, second, labels, weight, bias)
    assert not torch.allclose(one, cross_entropy(2 * first, 2 * second, labels, weight, bias))
    other = cross_entropy(2 * first, 2 * second, labels, weight, 2 * bias, temperature=2.0)
    assert torch.allclose(one, other)


def test_no_label_gives_zero_with_a_gradient() -> None:
    (first, second), (weight, bias) = points(1), layer()
    loss = cross_entropy(first, second, torch.full((6,), -1), weight, bias)
    assert float(loss.detach()) == 0.0
    assert torch.equal(torch.autograd.grad(loss, first)[0], torch.zeros_like(first))


def test_half_precision_embeddings_are_compared_in_single() -> None:
    (first, second), (weight, bias) = points(2), layer()
    labels = torch.tensor(LABELS)
    halves = (first.detach().half(), second.detach().half())
    wanted = cross_entropy(halves[0].double(), halves[1].double(), labels, weight, bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = cross_entropy(*halves, labels, weight.float(), bias.float())
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), wanted, rtol=1e-5)


def test_is_a_term_of_sums_and_no_pair_of_images_is_repelled() -> None:
    (first, second), classes, labels = points(3), layer(), torch.tensor(LABELS)
    batch = LossBatch(first, second, labels, classes=classes)
    terms = parse_losses("simclr+cross_entropy:weight=.5,temperature=2")
    total, parts = weighted_sum(terms, batch)
    wanted = cross_entropy(first, second, labels, *classes, temperature=2.0)
    assert torch.allclose(total, parts["nt_xent"] + 0.5 * wanted)
    assert torch.equal(pair_weights(terms, batch), pair_weights(parse_losses("simclr"), batch))
    with pytest.raises(InputError, match="class layer"):
        weighted_sum(terms, LossBatch(first, second, labels))


def test_its_minimum_separates_what_a_linear_layer_can() -> None:
    # Descent on the loss alone classifies four points at the corners of a square.
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    labels, linear, loss = torch.arange(4), nn.Linear(2, 4), torch.tensor(torch.inf)
    for _ in range(50):
        loss = cross_entropy(corners, corners, labels, linear.weight, linear.bias)
        for weight, slope in zip(
            linear.parameters(), torch.autograd.grad(loss, [*linear.parameters()]), strict=True
        ):
            weight.data -= slope
    assert linear(corners).argmax(1).tolist() == [0, 1, 2, 3] and float(loss) < 0.2


@pytest.mark.parametrize(
    ("labels", "shape", "message"),
    [
        ([0, 1, 3], (3, 4), "label 3 has no row"),
        ([0, 1, 2], (3, 5), "of size 4"),
        ([0, 1], (3, 4), "labels of shape"),
    ],
)
def test_refuses(labels: list[int], shape: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cross_entropy(*points(3, 3, 4), torch.tensor(labels), torch.ones(shape), torch.ones(3))
