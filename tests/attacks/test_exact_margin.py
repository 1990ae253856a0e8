"""What float64 rounds over the edge is told from what the real network does."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robustcl import attacks
from robustcl.attacks.exact_margin import exact_margin
from robustcl.core.classifier import Classifier
from robustcl.core.modules import exact_copy
from robustcl.core.objectives import Objective, misclassify
from tests.network import small_classifier, some_images

SHAPE = (1, 4, 4)
FAR = 2.0**40  # beside which a pixel is a multiple of 2^-12


class _Shifted(nn.Module):
    # In real arithmetic, nothing but the network behind it.
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images + FAR) - FAR)


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def pair(network: nn.Module, targets: Tensor) -> tuple[Objective, Objective]:
    model = Classifier.from_scores(network, image_shape=SHAPE)
    return misclassify(exact_copy(model), targets), misclassify(model, targets)


def counted(network: nn.Module, points: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    exact, rough = pair(network, targets)
    margin, bound = exact_margin(exact, rough, points, batch_size=8)
    return margin, bound


def near_the_boundary(size: float) -> tuple[Tensor, Tensor, Tensor]:
    # float64 points that lose by `size`, or win by it.
    images = torch.rand(200, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    model = Classifier.from_scores(plain().double(), image_shape=SHAPE).double()
    targets = model(images).argmax(1)
    objective = misclassify(model, targets)
    for _ in range(20):
        images.requires_grad_()
        margin = objective.margin(images)
        slope = torch.autograd.grad(margin.sum(), images)[0]
        steep = slope.flatten(1).square().sum(1)
        wanted = size * (1.0 - 2.0 * (torch.arange(200) % 2)) - margin.detach()
        images = images.detach() + (wanted / steep).view(-1, 1, 1, 1) * slope
    return images, targets, objective.margin(images)


def test_wins_of_an_ill_conditioned_network_by_rounding_do_not_count() -> None:
    points, targets, real = near_the_boundary(1e-6)
    margin, bound = counted(_Shifted(plain()), points, targets)
    assert int(((margin > 0) & (real < 0)).sum()) > 20
    assert not bool(((margin > bound) & (real < 0)).any())
    # Its rounding is far beyond that of float64 alone, and the bound not absurdly so.
    assert bool((bound > 1e-3).all()) and bool((bound < 10.0).all())


def test_wins_of_a_well_conditioned_network_count_down_to_its_own_rounding() -> None:
    points, targets, real = near_the_boundary(1e-9)
    margin, bound = counted(plain(), points, targets)
    assert torch.equal(margin > bound, real > 0)
    # Units of rounding of numbers near 1; how many, two random draws decide.
    assert bool((bound > 1e-15).all()) and bool((bound < 1e-10).all())


def test_radii_of_an_ill_conditioned_network_are_not_below_the_real_ones() -> None:
    network = plain().double()
    real = Classifier.from_scores(network, image_shape=SHAPE).double()
    model = Classifier.from_scores(_Shifted(network), image_shape=SHAPE).double()
    images = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    left, weight = real(images).argmax(1), next(network.parameters()).detach()
    scores = real(images).detach()
    slopes = torch.linalg.vector_norm(weight[left][:, None] - weight, dim=2)
    exact = ((scores.gather(1, left[:, None]) - scores) / slopes).nan_to_num(nan=torch.inf).amin(1)
    found = attacks.attacked_radius(
        "pgd", misclassify(model, left), images, norm="l2", eps_grid=[9.0], box=None, batch_size=20
    )
    assert bool((found.deployed < exact).any())  # by rounding
    assert bool((found.radius >= exact).all()) and bool(found.confirmed.any())


class _Single(nn.Module):
    # Computes in float32 whatever it is given.
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.weight = [network[1].weight.detach(), network[1].bias.detach()]  # pyright: ignore[reportIndexIssue]

    def forward(self, images: Tensor) -> Tensor:
        weight, bias = self.weight
        return nn.functional.linear(images.flatten(1).float(), weight.float(), bias.float())


def test_a_network_that_computes_in_float32_is_held_to_the_rounding_of_float32() -> None:
    points, targets, real = near_the_boundary(2e-8)
    margin, bound = counted(_Single(plain()), points, targets)
    assert bool(((margin > 0) & (real < 0)).any())
    assert not bool(((margin > bound) & (real < 0)).any())
    assert bool((bound > 1e-6).all())


def test_what_is_not_finite_never_counts() -> None:
    for value in (torch.inf, torch.nan):
        objective = Objective(lambda points, v=value: points.flatten(1).sum(1) * 0 + v)
        margin, bound = exact_margin(objective, objective, torch.ones(3, *SHAPE), batch_size=2)
        assert not bool((margin > bound).any())


def test_who_wins_in_one_batch_shape_only_does_not_count() -> None:
    for wins in (1, 2):
        objective = Objective(
            lambda points, size=wins: (
                points.flatten(1).sum(1) * 0 + (-1.0 + 2 * (len(points) == size))
            )
        )
        margin, bound = exact_margin(objective, objective, torch.ones(4, *SHAPE), batch_size=2)
        assert not bool((margin > bound).any())


class _InPlace(nn.Module):
    # All the ways of changing what another name also refers to.
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(images.flatten(1))
        same = hidden
        nn.functional.relu(hidden, inplace=True)
        hidden.mul_(1.5)
        half = hidden[:, :8]
        half += 0.25
        hidden[:, 3] = 0.75
        hidden.view(-1, 4, 4)[:, 0].add_(same[:, :4])
        torch.add(hidden, 1.0, out=hidden)
        return self.second(same)


def test_changed_operands_leave_what_a_network_does_in_place() -> None:
    points, targets = some_images(6)[:, :, :4, :4].double(), torch.tensor([0, 1, 2, 0, 1, 2])
    _, bound = counted(_InPlace(), points, targets)
    assert bool((bound > 1e-14).all()) and bool((bound < 1e-10).all())


def attention() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(2), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), nn.Flatten(),
        nn.Linear(16, 3),
    )  # fmt: skip


def convolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.GroupNorm(2, 4), nn.GELU(), nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 3),
    )  # fmt: skip


@pytest.mark.parametrize("build", [attention, convolution])
def test_the_bound_is_small_for_ordinary_networks(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    points, targets = some_images(6)[:, :, :4, :4].double(), torch.zeros(6, dtype=torch.int64)
    _, bound = counted(build().eval(), points, targets)
    assert bool((bound > 1e-14).all()) and bool((bound < 1e-9).all())


def test_the_generator_is_left_alone_and_so_is_the_model() -> None:
    model, images = small_classifier(), some_images(4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    left = model(images).argmax(1)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    exact = misclassify(exact_copy(model), left)
    exact_margin(exact, misclassify(model, left), images, batch_size=4)
    assert torch.equal(torch.rand(2), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
