"""The reference AutoAttack: its cost per image, its known defects, what it leaves behind."""

import sys

import pytest
import torch
from torch import nn

from robustcl import attacks
from robustcl.attacks.square_tiles import square_tiles
from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective, misclassify
from robustcl.core.threat import Threat
from tests.network import small_classifier, some_images


class Offset(nn.Module):
    """Linear scores, and a lead of the first class that no perturbation takes back."""

    def __init__(self, classes: int, lead: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.slope = nn.Linear(64, classes)
        self.lead = lead

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores = self.slope(images.flatten(1))
        return scores + self.lead * torch.nn.functional.one_hot(
            torch.zeros(len(images), dtype=torch.int64), scores.shape[1]
        )


def aim(module: nn.Module, images: torch.Tensor) -> Objective:
    model = Classifier.from_scores(module, image_shape=images.shape[1:])
    return misclassify(model, model(images).argmax(1))


@pytest.mark.parametrize(
    ("version", "classes", "norm"),
    [
        ("standard", 5, "linf"),
        ("plus", 3, "linf"),
        ("rand", 3, "l2"),
        ("rand", 2, "linf"),
        ("standard", 7, "l1"),
        ("rand", 3, "l1"),
    ],
)
def test_a_survivor_costs_what_is_stated(version: str, classes: int, norm: Norm) -> None:
    images = some_images(2)
    objective = aim(Offset(classes, 1e4), images)
    result = attacks.run_attack("autoattack", objective, images, Threat(norm, 0.1), version=version)
    most, _ = attacks.reference_cost(classes, norm, version=version, size=(8, 8))
    assert not bool(result.success.any())
    assert result.gradients.tolist() == [most.gradients] * 2
    assert result.forwards is not None
    assert result.forwards.tolist() == [most.forwards] * 2


def test_the_published_cost() -> None:
    most, least = attacks.reference_cost(10, "linf")
    assert most == (7864, 1910)
    assert least == (111, 101)


def test_no_image_that_is_right_costs_less_than_stated() -> None:
    model, images = small_classifier(classes=2), some_images(8)
    objective = misclassify(model, model(images).argmax(1))
    result = attacks.run_attack("autoattack", objective, images, Threat("linf", 0.03))
    most, least = attacks.reference_cost(2, "linf")
    assert 0 < int(result.success.sum()) < 8
    spent = result.gradients
    assert bool((spent[result.success] >= least.gradients).all())
    assert bool((spent[~result.success] == most.gradients).all())


def test_gradients_are_counted_per_image_beside_others() -> None:
    images = some_images(6)
    model = small_classifier()
    targets = model(images).argmax(1)
    targets[2] = (targets[2] + 1) % 6  # wrong at the start: nothing is spent on it
    result = attacks.run_attack(
        "autoattack", misclassify(model, targets), images, Threat("linf", 0.3)
    )
    assert int(result.gradients[2]) == 0
    assert bool((result.gradients[result.gradients > 0] >= 101).all())
    assert int((result.gradients > 0).sum()) == 5


@pytest.mark.parametrize("size", [(4, 4), (12, 12), (12, 17)])
def test_square_runs_in_l2_at_every_size(size: tuple[int, int]) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(size[0] * size[1], 2))
    with torch.no_grad():
        network[1].bias += torch.tensor([9.0, 0.0])  # pyright: ignore[reportOperatorIssue]
    images = torch.rand(1, 1, *size)
    objective = aim(network, images)
    result = attacks.run_attack("autoattack", objective, images, Threat("l2", 0.05))
    most, _ = attacks.reference_cost(2, "l2", size=size)
    assert result.forwards is not None
    assert result.forwards.tolist() == [most.forwards]
    assert ("no Square" in result.note) == (size[0] < 5)
    assert (most.forwards > 5000) == (size[0] >= 5)


def test_the_package_itself_fails_where_a_tile_is_cut() -> None:
    from pyautoattack.square import SquareAttack

    def predict(images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0]]).expand(len(images), 2).clone()

    for side in range(5, 33):
        square = SquareAttack(predict, norm="L2", n_queries=1, eps=0.1, seed=0)
        images, targets = torch.rand(1, 1, side, side), torch.zeros(1, dtype=torch.int64)
        tile = side // 5
        cut = tile > 1 and any(size != (tile, tile) for size in square_tiles(side, side))
        try:
            square.perturb(images, targets)
            fails = False
        except RuntimeError:
            fails = True
        assert fails == cut, side


def test_weights_keep_their_gradients_and_tracing_goes_on() -> None:
    model, images = small_classifier(classes=2), some_images(2)
    model.train()
    model(images).sum().backward()
    before = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    objective = misclassify(model, model(images).argmax(1))
    calls: list[str] = []

    def trace(frame, event, argument):
        calls.append(event)  # of calls only, as no local function is returned

    old = sys.gettrace()
    sys.settrace(trace)
    try:
        # A small eps lets FAB come to its turn, which leaves gradients in `grad`.
        attacks.autoattack(objective, images, Threat("linf", 1e-4), seeds=[3])
        assert sys.gettrace() is trace
    finally:
        sys.settrace(old)
    after = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert len(before) == len(after) > 0
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(weight.requires_grad for weight in model.parameters())
    assert all(part.training for part in model.modules())


def test_float64_models_are_attacked_too() -> None:
    model, images = small_classifier().double(), some_images(3).double()
    objective = misclassify(model, model(images).argmax(1))
    assert bool(
        attacks.run_attack("autoattack", objective, images, Threat("linf", 0.3)).success.all()
    )


def test_the_record_says_what_the_package_warns_of_and_that_it_reseeds() -> None:
    model, images = small_classifier(), some_images(4)

    class Probabilities(nn.Module):
        def forward(self, points: torch.Tensor) -> torch.Tensor:
            return model(points).softmax(1)

    objective = aim(Probabilities(), images)
    note = attacks.run_attack("autoattack", objective, images, Threat("linf", 0.3)).note
    assert "probabilities" in note
    assert "points depend on the batch" in note


def test_an_unknown_version_is_refused() -> None:
    images = some_images(1)
    with pytest.raises(InputError, match="plus"):
        attacks.run_attack(
            "autoattack", aim(Offset(3, 0.0), images), images, Threat("l2", 1.0), version="x"
        )
