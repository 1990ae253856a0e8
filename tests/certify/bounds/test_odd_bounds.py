"""Bounds of layers with unusual parameters, types and scales."""

# What nn.Module makes of attributes, and lists where torch's stubs want tuples.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportOperatorIssue=false
# pyright: reportOptionalSubscript=false

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustcl.certify import certified_radius, crown, displacement, local, product, retrieval
from robustcl.certify._crown import Effort, margins_at
from robustcl.certify.bounds import ball_bounds, center_bounds, lower_bounds, slope_bounds, trace
from robustcl.certify.bounds.layers import layer_lipschitz_bound
from robustcl.certify.bounds.linear_bounds import Surroundings
from robustcl.certify.bounds.networks import network_lipschitz_bound
from robustcl.certify.bounds.zonotope_slopes import zonotope_jacobian_bounds
from robustcl.certify.lowering.export import BATCH, exported
from robustcl.certify.lowering.lower import lowered
from robustcl.certify.ops.affine import Affine
from robustcl.certify.ops.operation import Operation
from robustcl.certify.ops.scalar_function import ScalarFunction
from robustcl.certify.ops.spectral_norm import spectral_norm
from robustcl.certify.preparation import prepared_model
from robustcl.certify.rounding import row_lengths
from robustcl.certify.verification_problem import verification_problem
from robustcl.core.classifier import Classifier, Encoder
from robustcl.core.errors import InputError, UnsupportedError
from robustcl.models.heads import LinearHead, PrototypeHead
from tests.odd_networks import ACTIVATIONS


def operation_of(layer: nn.Module, shape: tuple[int, ...]) -> Operation:
    """What a layer is lowered to."""
    inputs = torch.zeros(BATCH, *shape, dtype=torch.float64)
    return lowered(exported(layer.double().eval(), inputs), cure="").steps[-1].operation


def scalar_function_of(layer: nn.Module) -> ScalarFunction | None:
    return operation_of(layer, (4,)).function


PARAMETERS = [
    *(nn.LeakyReLU(slope) for slope in (-2.0, -0.3, 0.0, 1.0, 50.0)),
    *(nn.ELU(alpha) for alpha in (-1.5, 0.1, 3.0, 40.0)),
    *(nn.Softplus(beta=beta) for beta in (-3.0, -1.0, 1e-5, 0.05, 2.0, 100.0, 1e4)),
    nn.PReLU(init=-1.5), nn.GELU(), nn.SiLU(), nn.Tanh(),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("layer", PARAMETERS, ids=str)
def test_activations_are_enclosed_whatever_their_parameters(
    layer: nn.Module, dtype: torch.dtype
) -> None:
    # Softplus is compared without its jump, which `leap` bounds; see below.
    known, exact = scalar_function_of(layer), layer.double()
    assert known is not None and known.slope is not None
    if isinstance(layer, nn.Softplus):
        beta = layer.beta

        def exact(z: Tensor) -> Tensor:
            return torch.logaddexp(beta * z, torch.zeros_like(z)) / beta

    generator = torch.Generator().manual_seed(0)
    ends = torch.randn(400, 2, generator=generator, dtype=torch.float64).mul(4).sort(dim=1).values
    ends[:100] /= 1e3
    low, high = ends[:, 0].to(dtype), ends[:, 1].to(dtype)
    share = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
    points = low.double() + share * (high.double() - low.double())
    points = points.clamp(low.double(), high.double())
    with torch.no_grad():
        values = exact(points)
    below, above = known.range(low, high)
    assert bool((below <= values).all()) and bool((values <= above).all())
    widths = points.diff(dim=0)
    steps = values.diff(dim=0) / widths
    lost = 1e-5 + 4e-16 * values.abs().max() / widths  # by the difference of two values
    smallest, largest = known.slopes(low, high)
    assert bool((smallest - lost <= steps).all()) and bool((steps <= largest + lost).all())
    assert bool((steps.abs() <= known.steepest + lost).all())
    if known.is_piecewise_linear:  # see `kinked_lines`
        return
    for slope in (smallest, largest, (smallest + largest) / 2):
        floor, roof = known.offsets(low, high, slope)
        rest = values - slope.double() * points
        assert bool((floor <= rest).all()) and bool((rest <= roof).all())


@pytest.mark.parametrize("beta", [-2.0, 0.5, 1.0, 7.0])
@pytest.mark.parametrize("threshold", [20.0, 30.0])
def test_the_jump_of_softplus_is_no_larger_than_its_leap(beta: float, threshold: float) -> None:
    layer = nn.Softplus(beta=beta, threshold=threshold).double()
    known, edge = scalar_function_of(layer), torch.tensor(threshold / beta, dtype=torch.float64)
    assert known is not None
    points = edge * (1 + torch.linspace(-1e-9, 1e-9, 41, dtype=torch.float64))
    jump = (layer(points) - known.value(points)).abs().max()
    assert 0.9 * known.leap <= float(jump) <= known.leap + 1e-14


class SoftplusJump(nn.Module):
    """z -> 1e9 (softplus(z) - z) - 1 and its negative, which jump by 2 where z passes 20."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.first, self.soft, self.last = nn.Linear(1, 1), nn.Softplus(), nn.Linear(1, 2)
        self.double()
        with torch.no_grad():
            self.first.weight.fill_(1.0)
            self.first.bias.fill_(start)
            self.last.weight.copy_(torch.tensor([[1.0], [-1.0]]))
            self.last.bias.copy_(torch.tensor([-1.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x.flatten(1))
        return self.last((self.soft(z) - z) * 1e9)


def test_the_leap_lowers_every_margin() -> None:
    model = Classifier.from_scores(SoftplusJump(start=20.0 - 0.501), image_shape=(1, 1, 1))
    points = torch.tensor([0.5, 0.5011]).view(2, 1, 1, 1).double()
    assert model(points).argmax(1).tolist() == [0, 1]  # the jump lies between
    for method in (product, local, crown, certified_radius):
        radius = method(model, points).radius
        assert float(radius[0]) < 0.001 and float(radius[1]) < 1e-4


@pytest.mark.parametrize(
    "beta, threshold", [(0.0, 20.0), (math.nan, 20.0), (1.0, 5.0), (math.inf, 20.0)]
)
def test_softplus_without_bounds_is_refused(beta: float, threshold: float) -> None:
    with pytest.raises(UnsupportedError, match="Softplus with"):
        scalar_function_of(nn.Softplus(beta=beta, threshold=threshold))


@pytest.mark.parametrize("bias", [(0.0, 0.0, 0.0), (0.3, -0.2, 0.1)])
def test_the_leap_lowers_what_lines_prove(bias: tuple[float, ...]) -> None:
    # h may lie by the leap from what is bounded, and a.h by as much times |a|.
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    head = LinearHead(torch.randn(3, 3), torch.tensor(bias))
    model = Classifier(Encoder(layers, image_shape=(1, 2, 2)), head)
    plain = prepared_model(model, norm="l2", method="test")
    leaping = replace(plain, bound=replace(plain.bound, leap=0.01))
    image, rows = torch.rand(1, 1, 2, 2), torch.tensor([0])
    found = []
    for prepared in (plain, leaping):
        task = verification_problem(prepared, image)
        others = torch.tensor([[k for k in range(3) if k != int(task.predicted)]])
        radius = torch.tensor([0.05]).double()
        found.append(margins_at(task, rows, radius, others, Effort()))
        sizes = task.directions[0, others[0]].norm(dim=1)
    assert bool((found[0] - found[1] >= 0.01 * sizes).all())


def test_softplus_has_no_lipschitz_constant_by_itself() -> None:
    with pytest.raises(UnsupportedError, match="jumps"):
        layer_lipschitz_bound(nn.Softplus(), (3,), norm="l2")


@pytest.mark.parametrize("layer", [nn.LeakyReLU(math.nan), nn.ELU(math.inf), nn.LeakyReLU(1e31)])
def test_parameters_that_are_no_numbers_are_refused(layer: nn.Module) -> None:
    with pytest.raises(UnsupportedError, match="no usable bounds"):
        scalar_function_of(layer)


def test_functions_without_slopes_are_enclosed_where_they_are_not_monotone() -> None:
    class Dip(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(1))

    for layer, place in (
        (nn.Mish(), -1.1924),
        (nn.Hardswish(), -1.5),
        (nn.PReLU(2, init=-1.0), 0.0),
    ):
        encoder = Encoder(Dip(layer), image_shape=(1, 1, 2)).double()
        network = trace(encoder)
        points = torch.full((1, 1, 1, 2), place).double()
        center = center_bounds(network, points)
        region = ball_bounds(network, points, torch.tensor([0.6]), center, norm="linf")[-1]
        inside = layer.double()(
            torch.linspace(place - 0.6, place + 0.6, 99).double()[:, None].expand(-1, 2)
        )
        assert bool((region.low <= inside).all()) and bool((inside <= region.high).all())


# Not-a-number is unknown, not inactive.


def test_what_overflows_inside_a_ball_is_unknown() -> None:
    # 1e310 (x - .6) is infinite a little beyond .6, where the sigmoid turns from 1/2 to 1.
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1), nn.Sigmoid(), nn.Linear(1, 2)
    ).double()
    values = [1e155, -0.6e155, 1e155, 0.0, torch.tensor([[0.0], [1.0]]), torch.tensor([0.8, 0.0])]
    with torch.no_grad():
        for weight, value in zip(network.parameters(), values, strict=True):
            weight.copy_(torch.as_tensor(value, dtype=torch.float64))
    model = Classifier.from_scores(network, image_shape=(1, 1, 1))
    image = torch.full((1, 1, 1, 1), 0.5)
    assert int(model(image.double()).argmax()) == 0
    assert int(model(image.double() + 0.12).argmax()) == 1
    for norm in ("l2", "linf"):
        for method in (product, local, crown, certified_radius):
            assert float(method(model, image, norm=norm).radius) <= 0.1


def test_bounds_through_unknown_numbers_prove_nothing() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    network = trace(Encoder(layers, image_shape=(1, 2, 2)))
    images, radius = torch.rand(2, 1, 2, 2), torch.full((2,), 0.1)
    directions = torch.randn(2, 3, 3).double()
    center = center_bounds(network, images)
    regions = ball_bounds(network, images, radius, center, norm="l2")
    around = Surroundings(network, center, regions, {})
    assert bool(torch.isfinite(lower_bounds(around, directions, images, radius, norm="l2")).all())
    for wrong in (torch.nan, torch.inf):
        regions[3].high[1, 2] = wrong
        lower = lower_bounds(around, directions, images, radius, norm="l2")
        slopes = slope_bounds(network, regions, directions, norm="l2")
        shared = zonotope_jacobian_bounds(network, regions, directions, norm="l2")
        assert bool(torch.isfinite(lower[0]).all()) and bool((lower[1] == -torch.inf).all())
        assert bool((slopes[1] == torch.inf).all()) and bool((shared[1] == torch.inf).all())
        assert bool(torch.isfinite(slopes[0]).all())


# Scales.


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e-160, 1.0, 1e160, 1e300])
def test_norms_neither_underflow_nor_overflow(scale: float) -> None:
    matrix = torch.tensor([[3.0, 0.0], [4.0, 5.0]], dtype=torch.float64)
    true = float(torch.linalg.matrix_norm(matrix, 2)) * scale
    scaled = matrix * scale
    found = spectral_norm(scaled)
    assert true <= found <= true * (1 + 1e-6) + 1e-280
    rows = row_lengths(scaled)
    assert float(rows[0]) == pytest.approx(3.0 * scale, rel=1e-6)
    layer = nn.Conv2d(1, 1, 2).double()
    layer.weight.data = matrix.view(1, 1, 2, 2) * scale
    assert layer_lipschitz_bound(layer, (1, 4, 4), norm="l2") >= 5.0 * scale


def test_weights_below_and_above_all_scales_claim_nothing_wrong() -> None:
    # The true constant is 1: tiny weights undone by huge ones.
    for small in (1e-200, 1e-280):
        network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.Linear(2, 2)).double()
        with torch.no_grad():
            network[1].weight.copy_(torch.eye(2).double() * small)
            network[2].weight.copy_(torch.eye(2).double() / small)
            network[2].bias.copy_(torch.tensor([0.5, 0.0]))
        model = Classifier.from_scores(network, image_shape=(1, 1, 2))
        true = (0.5 + 0.3 - 0.4) / math.sqrt(2.0)
        image = torch.tensor([[[[0.3, 0.4]]]])
        for method in (product, local, crown, certified_radius):
            assert float(method(model, image).radius) <= true * (1 + 1e-6)


def test_infinite_weights_are_refused_in_words() -> None:
    with pytest.raises(UnsupportedError, match="too large"):
        spectral_norm(torch.tensor([[1.0, math.inf]], dtype=torch.float64))


@pytest.mark.parametrize("offset", [2.0**40, 1e12])
def test_offsets_that_cancel_are_part_of_the_slack(offset: float) -> None:
    # (x + 2^40) - 2^40 is x, but in float64 rounded to a multiple of 2^-12.
    class Far(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.flatten(1) + offset) - offset

    encoder = Encoder(Far(), image_shape=(1, 1, 3))
    model = Classifier(encoder, PrototypeHead(torch.randn(2, 3)))
    images = 1e-3 * torch.rand(20, 1, 1, 3, generator=torch.Generator().manual_seed(0))
    true = images.double().flatten(1)
    assert float((encoder.double()(images.double()) - true).abs().max()) > 1e-5
    claim = displacement(model, images, eps=1e-5)
    side = torch.linalg.cross(true, torch.rand(20, 3).double())
    moved = true + 1e-5 * functional.normalize(side, dim=1)
    drift = functional.normalize(moved, dim=1) - functional.normalize(true, dim=1)
    assert bool((claim.drift >= drift.norm(dim=1) * (1 - 1e-9)).all())
    gallery = functional.normalize(torch.randn(6, 3), dim=1)
    kept = retrieval(model, images, gallery)
    gaps = gallery.double()[kept.items][:, None] - gallery.double()
    lead = torch.einsum("bmd,bd->bm", gaps, true) / gaps.norm(dim=2).clamp_min(1e-300)
    lead.scatter_(1, kept.items[:, None], torch.inf)
    assert bool((kept.radius <= lead.amin(dim=1).clamp_min(0.0) * (1 + 1e-6)).all())


# Padding and pooling.


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("kernel, padding", [(1, 2), (2, 2), ((1, 3), (2, 1)), (3, 2)])
def test_magnitude_covers_copies_by_padding(mode: str, kernel: Any, padding: Any) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 2, kernel, padding=padding, padding_mode=mode).double()
    operation = operation_of(layer, (1, 3, 4))
    assert isinstance(operation, Affine)
    basis = torch.eye(12, dtype=torch.float64).view(12, 1, 3, 4)
    size = operation.absolute(basis).flatten(1).T
    matrix = operation.apply(basis).flatten(1).T
    assert operation.magnitude >= float(torch.linalg.matrix_norm(size, 2))
    assert operation.norms["l2"] >= float(torch.linalg.matrix_norm(matrix, 2))
    rows = operation.rows.expand(1, *operation.apply(basis).shape[1:]).flatten()
    assert bool((rows >= matrix.norm(dim=1)).all())
    assert operation.terms >= int((matrix != 0).sum(dim=0).max())
    back = operation.transpose(
        torch.eye(len(matrix), dtype=torch.float64).view(-1, *operation.apply(basis).shape[1:])
    )
    torch.testing.assert_close(back.flatten(1), matrix)


def test_a_changed_padding_is_that_of_the_forward_pass() -> None:
    layer = nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate").double()
    layer.padding = (0, 0)  # the layer goes on padding by what it noted when it was made
    basis = torch.eye(9, dtype=torch.float64).view(9, 1, 3, 3)
    matrix = functional.conv2d(functional.pad(basis, (1,) * 4, mode="replicate"), layer.weight)
    true = float(torch.linalg.matrix_norm(matrix.flatten(1), 2))
    assert layer_lipschitz_bound(layer, (1, 3, 3), norm="l2") >= true


POOLS = [
    nn.MaxPool2d([2, 2]), nn.MaxPool2d([3, 2], stride=[1, 2], padding=[1, 0]),
    nn.MaxPool2d(2, stride=[]), nn.AvgPool2d([2, 3], stride=[1, 1]), nn.AvgPool2d([3], padding=[1]),
    nn.AvgPool2d(2, divisor_override=3), nn.AdaptiveAvgPool2d([2, 3]),
    nn.AdaptiveAvgPool2d((None, 4)), nn.AdaptiveAvgPool2d([3]),
    nn.AvgPool2d(3, stride=2, ceil_mode=True, count_include_pad=False),
]  # fmt: skip


@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("norm, order", [("l2", 2.0), ("linf", torch.inf)])
def test_pooling_takes_lists_and_divisors(pool: nn.Module, norm: Any, order: float) -> None:
    try:
        pool(torch.rand(1, 2, 6, 6))
    except (RuntimeError, TypeError):
        pytest.skip("torch itself refuses this")
    encoder = Encoder(nn.Sequential(pool, nn.Flatten()), image_shape=(2, 6, 6)).double()
    bound = network_lipschitz_bound(encoder, norm=norm)
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(300, 2, 6, 6, generator=generator).double()
    second = first + 0.1 * torch.randn(300, 2, 6, 6, generator=generator).double()
    second[:150] = first[:150] + 0.3
    moved = torch.linalg.vector_norm(encoder(first) - encoder(second), 2.0, dim=1)
    given = torch.linalg.vector_norm((first - second).flatten(1), order, dim=1)
    assert float((moved / given).max()) <= bound.total
    network = trace(encoder)
    radius = torch.full((4,), 0.05, dtype=torch.float64)
    center = center_bounds(network, first[:4])
    region = ball_bounds(network, first[:4], radius, center, norm="linf")[-1]
    for point in (first[:4] + 0.05, first[:4] - 0.05):
        value = encoder(point)
        assert bool((region.low <= value).all()) and bool((value <= region.high).all())


@pytest.mark.parametrize("divisor", [0, -3])
def test_divisors_that_turn_the_sign_are_refused(divisor: int) -> None:
    layers = nn.Sequential(nn.AvgPool2d(2, divisor_override=divisor), nn.Flatten())
    encoder = Encoder(layers, image_shape=(1, 4, 4))
    with pytest.raises((UnsupportedError, InputError)):
        network_lipschitz_bound(encoder)


def test_layers_for_images_are_refused_on_other_shapes() -> None:
    class Unbatched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x.flatten(1, 2)).flatten(1)

    with pytest.raises(UnsupportedError):
        trace(Encoder(Unbatched(), image_shape=(1, 4, 4)))


def test_batch_norm_with_a_negative_variance_is_refused() -> None:
    layers = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2))
    layers[1].running_var.fill_(-1.0)
    with pytest.raises(UnsupportedError, match="root of no positive number"):
        trace(Encoder(layers, image_shape=(1, 2, 2)))


def test_every_odd_activation_is_drawn() -> None:
    names = {
        type(make(torch.Generator().manual_seed(s))).__name__
        for make in ACTIVATIONS
        for s in range(8)
    }
    assert {"LeakyReLU", "ELU", "Softplus", "PReLU", "Mish", "Hardswish", "Hardtanh"} <= names


@pytest.mark.parametrize("linear", [False, True])
def test_an_offset_of_terms_that_cancel_is_enclosed(linear: bool) -> None:
    # (x - m) f + b with m f near b: in float64 the sum of the two loses up to 1e10 units.
    mean, bias = 1.1e10, 1.1e10 / 3.0
    norm = nn.BatchNorm1d(1, eps=0.0).double()
    norm.running_mean.fill_(mean)
    norm.running_var.fill_(9.0)
    norm.bias.data.fill_(bias)
    first = nn.Linear(1, 1).double()
    with torch.no_grad():
        first.weight.fill_(1.0)
        first.bias.fill_(0.0)
    parts = [nn.Flatten(), first, norm] if linear else [nn.Flatten(), norm]
    network = trace(Encoder(nn.Sequential(*parts), image_shape=(1, 1, 1)).double())
    end = center_bounds(network, torch.full((1, 1, 1, 1), 0.3).double())[-1]
    exact = (Fraction(0.3) - Fraction(mean)) / 3 + Fraction(bias)
    assert Fraction(float(end.low)) <= exact <= Fraction(float(end.high))
    assert float(end.high - end.low) > 1e-7
