"""Certificates first: what is spared, what is spent, and that nothing is lost."""

import pytest
import torch

from robustcl import attacks
from robustcl.attacks._screened import STAGES, Screening
from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective, misclassify
from robustcl.core.threat import Threat
from tests.affine import affine_classifier, exact_distance

# Linear scores: an image falls within eps exactly where its distance to a boundary is below it.


def setting(
    norm: Norm, count: int = 12
) -> tuple[Classifier, Objective, torch.Tensor, torch.Tensor]:
    model = affine_classifier(dtype=torch.float32)
    draws = torch.Generator().manual_seed(3)
    images = 0.4 + 0.2 * torch.rand(count, 2, 4, 4, generator=draws)
    exact = exact_distance(model, images, norm)
    return model, misclassify(model, model(images).argmax(1)), images, exact


@pytest.fixture(scope="module", params=["l2", "linf"])
def case(request: pytest.FixtureRequest) -> tuple[Screening, Objective, torch.Tensor, float, Norm]:
    norm: Norm = request.param
    _, objective, images, exact = setting(norm)
    ordered = exact.sort().values
    eps = float((ordered[5] + ordered[6]) / 2)  # six fall, six stand
    certified = torch.where(exact > ordered[8], 0.999 * exact, 0.5 * exact)
    found = attacks.screened(objective, images, Threat(norm, eps), certified=certified)
    assert int((certified >= eps).sum()) == 3
    return found, objective, images, eps, norm


def test_exactly_those_fall_that_can(case) -> None:
    found, objective, _, eps, norm = case
    exact = setting(norm)[3]
    assert found.result.success.tolist() == (exact < eps).tolist()
    radius = found.result.radius[found.result.success]
    assert bool((radius <= eps * (1 + 1e-6)).all())
    margin = objective.margin(found.result.adversarials)
    assert bool((margin[found.result.success] > 0).all())


def test_certified_images_cost_one_look_and_survivors_the_whole_reference(case) -> None:
    found, _, _, _, norm = case
    most, least = attacks.reference_cost(5, norm, size=(4, 4))
    screens = 8
    for row, name in enumerate(found.decided):
        spent, alone = found.result.gradients[row], found.reference_gradients[row]
        if name == "certified":
            assert (int(spent), int(found.result.forwards[row])) == (0, 1)
            assert int(alone) == most.gradients
        elif name == "survived":
            assert int(spent) == screens + most.gradients
            assert int(alone) == most.gradients
            assert int(found.reference_forwards[row]) == most.forwards
        else:
            assert int(spent) <= screens
            assert int(alone) == least.gradients
    assert found.decided.count("certified") == found.decided.count("survived") == 3


def test_stages_add_up(case) -> None:
    found, *_ = case
    assert [stage.name for stage in found.stages] == list(STAGES[:-1])
    assert sum(stage.gradients for stage in found.stages) == int(found.result.gradients.sum())
    assert sum(stage.forwards for stage in found.stages) == int(found.result.forwards.sum())
    left = 12
    for stage in found.stages:
        assert stage.entered == left
        left -= stage.decided
    assert left == found.decided.count("survived")


def test_the_saving_stays_below_its_ceiling_and_reaches_nine_tenths(case) -> None:
    found, *_ = case
    assert 0.9 * found.ceiling <= found.saving <= found.ceiling


def test_the_reference_alone_is_not_overstated_and_finds_no_more(case) -> None:
    found, objective, images, eps, norm = case
    alone = attacks.run_attack("autoattack", objective, images, Threat(norm, eps))
    assert bool((found.result.success | ~alone.success).all())
    assert bool((found.reference_gradients <= alone.gradients).all())
    assert alone.forwards is not None  # shared among images here and there, their sum is right
    assert int(found.reference_forwards.sum()) <= int(alone.forwards.sum())


def test_an_image_the_adversary_has_at_the_start_is_never_certified() -> None:
    model, _, images, exact = setting("l2", 4)
    other = misclassify(model, (model(images).argmax(1) + 1) % 5)
    found = attacks.screened(other, images, Threat("l2", 0.1), certified=9 * exact)
    assert found.decided == ("start",) * 4
    assert found.result.radius.tolist() == [0.0] * 4
    assert int(found.result.gradients.sum()) == 0


def test_a_radius_covers_the_rim_of_its_ball_and_nothing_beyond() -> None:
    _, objective, images, exact = setting("l2", 4)
    exact = exact.double()
    eps = 1.2 * float(exact.max())  # all can be fooled: what is not, was covered by its radius
    at = torch.tensor(eps, dtype=torch.float64)
    below, above = (at.nextafter(torch.tensor(end).double()) for end in (0.0, torch.inf))
    certified = torch.stack([at, below, above, 0.999999 * at])
    found = attacks.screened(objective, images, Threat("l2", eps), certified=certified)
    assert found.decided == ("certified", "pgd", "certified", "pgd")
    assert found.result.success.tolist() == [False, True, False, True]


def test_a_radius_in_float32_is_not_rounded_up_to_eps() -> None:
    _, objective, images, exact = setting("l2", 3)
    near = (1.2 * exact.max()).float()
    eps = float(near) * (1 + 1e-8)  # whose nearest number in float32 is `near`
    assert float(near) < eps and torch.tensor(eps, dtype=torch.float32) == near
    found = attacks.screened(objective, images, Threat("l2", eps), certified=near.expand(3))
    assert found.decided == ("pgd",) * 3


def test_what_only_the_reference_finds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from robustcl.attacks import screened as module  # the function, from the package

    assert module is attacks.screened
    _, objective, images, exact = setting("linf", 3)
    blind = attacks.Attack(still, "finds nothing", "")
    monkeypatch.setitem(attacks.ATTACKS, "pgd", blind)
    found = attacks.screened(objective, images, Threat("linf", float(exact.max()) * 1.1))
    assert found.decided == ("reference",) * 3
    assert bool((found.reference_gradients >= 101).all())
    assert "points depend on the batch" in found.result.note


def still(objective, images, threat, *, seeds, steps, restarts):
    return attacks.Candidates(images, torch.zeros(len(images), dtype=torch.int64))


def test_hooks_and_modes_are_as_before_also_after_an_exception() -> None:
    model, objective, images, _ = setting("l2", 3)
    model.train()
    with pytest.raises(InputError, match="radii"):
        attacks.screened(objective, images, Threat("l2", 0.1), certified=torch.ones(2))
    with pytest.raises(InputError, match="one eps"):
        attacks.screened(objective, images, Threat("l2", torch.tensor([0.1, 0.2, 0.3])))
    with pytest.raises(InputError, match="plus"):
        attacks.screened(objective, images, Threat("l2", 0.1), version="custom")
    attacks.screened(objective, images, Threat("l2", 1.0))
    assert model.training
    assert not model._forward_hooks
    assert all(weight.grad is None for weight in model.parameters())


def test_few_images_do_not_fill_large_batches() -> None:
    model, objective, images, _ = setting("l2", 3)
    rows: list[int] = []
    handle = model.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    attacks.screened(objective, images, Threat("l2", 9.0), batch_size=128)
    handle.remove()
    assert rows.count(128) == 1  # who has won at the start
    assert set(rows) <= {1, 32, 128}  # 1: looked at alone, on a float64 copy
