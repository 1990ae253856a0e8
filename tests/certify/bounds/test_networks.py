"""The bound of a whole network: against its Jacobian, and what must be refused."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustcl.certify.bounds import (
    center_bounds,
    layer_lipschitz_bound,
    network_lipschitz_bound,
    trace,
)
from robustcl.core.classifier import Encoder
from robustcl.core.errors import UnsupportedError
from robustcl.models.encoders import MaxMin


class Network(nn.Module):
    """A linear layer, and a function of its output, which holds values of both signs."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(self.layer(images.flatten(1)))


def encoder(function: Callable[[Tensor], Tensor]) -> Encoder:
    torch.manual_seed(0)
    return Encoder(Network(function), image_shape=(1, 2, 2), std=(0.5,)).double().eval()


def used_after_it_was_overwritten(h: Tensor) -> Tensor:
    h.add_(h * 3)
    return h


def overwritten_through_a_view(h: Tensor) -> Tensor:
    h.view(-1, 4).add_(h * 3)
    return h


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h + h,
        lambda h: torch.add(input=h, other=h),
        lambda h: torch.cat([h, h], 1),
        lambda h: torch.cat([h, h * 2 + 1], 1),
        lambda h: h.view(h.size(0), -1),
        lambda h: h.view(h.shape[0], 2, 2).mean(2),
        lambda h: functional.gelu(5 * torch.ones(4) + h),
        lambda h: functional.avg_pool2d(h.view(-1, 1, 2, 2), 2, 2, 1, True, False).flatten(1),
        lambda h: functional.dropout(h, 0.5, False),
        lambda h: functional.leaky_relu(h, -3.0),
    ],
)
def test_bounds_the_jacobian_closely(function: Callable[[Tensor], Tensor]) -> None:
    model = encoder(function)
    bound = network_lipschitz_bound(model).total
    points = torch.randn(
        200, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    sizes = []
    for point in points:
        slopes = torch.autograd.functional.jacobian(lambda x: model(x)[0], point[None])
        sizes.append(float(torch.linalg.matrix_norm(slopes.flatten(1), 2)))  # pyright: ignore[reportAttributeAccessIssue]
    assert max(sizes) <= bound <= 1.6 * max(sizes)


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda h: functional.dropout(h, 0.5), "draws random numbers"),
        (lambda h: h.view(-1, 2), "one row per image"),
        (lambda h: torch.cat([h, h], 0), "one row per image"),
        (lambda h: h - h.mean(0, keepdim=True), "number of images"),
        (lambda h: h + torch.roll(h, 1), "number of images"),
        (lambda h: h.roll(0, 0).flip(0).flip(0), "apart"),
        (lambda h: h * h, "mul"),
        (lambda h: h * len(h) / len(h), "for 3 images"),
    ],
)
def test_refuses_what_it_cannot_bound(function: Callable[[Tensor], Tensor], words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        network_lipschitz_bound(encoder(function))


@pytest.mark.parametrize("function", [used_after_it_was_overwritten, overwritten_through_a_view])
def test_what_is_overwritten_counts_as_it_is_then(function: Callable[[Tensor], Tensor]) -> None:
    model = encoder(function)
    bound = network_lipschitz_bound(model).total
    points = torch.randn(200, 1, 2, 2, dtype=torch.float64)
    region = center_bounds(trace(model), points)[-1]
    values = model(points)
    assert bool(((region.low <= values) & (values <= region.high)).all())
    for point in points[:50]:
        slopes = torch.autograd.functional.jacobian(lambda x: model(x)[0], point[None])
        assert bound >= float(torch.linalg.matrix_norm(slopes.flatten(1), 2))  # pyright: ignore[reportAttributeAccessIssue]


def test_a_hook_is_refused() -> None:
    model = encoder(lambda h: h)
    model.backbone.register_forward_hook(lambda module, inputs, output: output.mul(100))  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(UnsupportedError, match="hooks"):
        network_lipschitz_bound(model)


@pytest.mark.parametrize(
    "layer",
    [nn.SiLU(), nn.Mish(), nn.SELU(), nn.GELU(), nn.GELU(approximate="tanh"), nn.Hardswish(),
     nn.Sigmoid(), nn.Tanh(), nn.ELU(2.0), nn.LeakyReLU(-1.5), nn.ReLU6(),
     nn.PReLU(init=1.2)],
)  # fmt: skip
def test_slopes_are_the_largest_ones(layer: nn.Module) -> None:
    points = torch.linspace(-8, 8, 400_001, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(layer.double()(points).sum(), points)
    largest = float(slopes.abs().max())
    bound = layer_lipschitz_bound(layer, (1,), norm="l2")
    assert largest <= bound <= largest * (1 + 1e-3)


def test_a_subclass_is_bounded_by_what_it_computes() -> None:
    class Doubled(nn.LeakyReLU):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    assert layer_lipschitz_bound(Doubled(), (1,), norm="l2") == pytest.approx(2.0)


def test_a_jumping_softplus_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="jumps"):
        layer_lipschitz_bound(nn.Softplus(threshold=1), (1,), norm="l2")


def test_sorted_pairs_may_double_what_their_rotation_allows_in_linf() -> None:
    # Rows (1, 1) and (1, -1) have the halved sum (1, 0) and difference (0, 1), of l1 norm 1, but
    # their maximum grows twice as fast as the pixels. A third layer reads the first of each pair.
    layers = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), MaxMin(), nn.ReLU()).double()
    layers[1].weight.data = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)  # pyright: ignore[reportAttributeAccessIssue]
    network = Encoder(layers, image_shape=(1, 1, 2)).double().eval()
    bound = network_lipschitz_bound(network, norm="linf")
    assert bound.prefix == pytest.approx(2.0)
    first = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert float(bound.along(first)) >= 2.0
    assert network_lipschitz_bound(network, norm="l2").prefix == pytest.approx(2.0**0.5)
