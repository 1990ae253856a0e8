"""APGD: closed-form radii, losses and their limits, budgets, restarts, compaction."""

import pytest
import torch
from torch import nn

from robustcl import attacks
from robustcl.attacks.adaptive_step import begin_run, checkpoints, count_in, empty_slots
from robustcl.core.choices import NORMS, Norm
from robustcl.core.classifier import Classifier
from robustcl.core.errors import InputError
from robustcl.core.objectives import Objective, misclassify
from robustcl.core.threat import Threat
from tests.affine import SHAPE, affine_classifier
from tests.attacks.known_answers import problems
from tests.network import small_classifier, some_images

TARGETED = ["margin-targeted", "dlr-targeted"]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", TARGETED)
def test_slightly_above_the_closed_form_radius_it_wins_and_slightly_below_never(
    norm: Norm, loss: str
) -> None:
    for problem in problems()[:2]:
        best = problem.optimum(norm)
        for share, wanted in ((1.01, True), (0.999, False)):
            result = attacks.run_attack(
                "apgd", problem.objective, problem.images, Threat(norm, share * best, problem.box),
                loss=loss, batch_size=3,
            )  # fmt: skip
            assert bool((result.success == wanted).all()), (problem.name, share)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", ["margin", "ce", "dlr"])
def test_losses_that_aim_at_no_class_never_win_below(norm: Norm, loss: str) -> None:
    for problem in problems():
        if loss == "dlr" and "sphere" in problem.name:
            continue
        threat = Threat(norm, 0.999 * problem.optimum(norm), problem.box)
        result = attacks.run_attack(
            "apgd", problem.objective, problem.images, threat, loss=loss, batch_size=7
        )
        assert not bool(result.success.any()), problem.name
        assert bool((result.gradients == 101).all())  # one per point: the start and 100 steps


# From inside in Linf every corner of the ball is a local optimum, so it is left out.
@pytest.mark.parametrize("place, norm", [(2, "l2"), (3, "l2"), (3, "linf")])
@pytest.mark.parametrize("loss", ["margin", "ce"])
def test_curved_boundaries_are_reached(place: int, norm: Norm, loss: str) -> None:
    for problem in problems()[place : place + 1]:
        threat = Threat(norm, 1.01 * problem.optimum(norm), problem.box)
        result = attacks.run_attack(
            "apgd", problem.objective, problem.images, threat, loss=loss, restarts=2, batch_size=7
        )
        assert bool(result.success.all()), (problem.name, result.success)


def saturated() -> tuple[Objective, torch.Tensor]:
    # Scores so far apart that softmax is 1 and its gradient 0 in float32.
    model = affine_classifier(dtype=torch.float32)
    with torch.no_grad():
        layer = model.encoder.backbone[1]  # pyright: ignore[reportIndexIssue]
        layer.weight.mul_(1e5)
        layer.bias.mul_(1e5)
    images = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))
    return misclassify(model, model(images).argmax(1)), images


@pytest.mark.parametrize("loss", ["margin", "dlr", *TARGETED])
def test_saturated_scores_hide_from_cross_entropy_only(loss: str) -> None:
    objective, images = saturated()
    budget = Threat("l2", 0.5)
    blind = attacks.run_attack("apgd", objective, images, budget, loss="ce", batch_size=6)
    sees = attacks.run_attack("apgd", objective, images, budget, loss=loss, batch_size=6)
    assert bool(sees.success.all())
    assert int(blind.success.sum()) <= 2


def test_verdict_radius_and_gradients_are_the_same_alone_and_in_a_batch() -> None:
    model, images = small_classifier(), some_images(11)
    objective = misclassify(model, model(images).argmax(1))
    options = {"batch_size": 4, "loss": "dlr-targeted", "steps": 20}
    threat = Threat("linf", torch.linspace(0.02, 0.2, 11))
    whole = attacks.run_attack("apgd", objective, images, threat, **options)
    assert 0 < int(whole.success.sum()) < 11
    for row in range(11):
        only = torch.tensor([row])
        alone = attacks.run_attack(
            "apgd", objective.select(only), images[only], threat.select(only), seeds=[row],
            **options,
        )  # fmt: skip
        assert bool(alone.success[0]) == bool(whole.success[row])
        torch.testing.assert_close(alone.radius[0], whole.radius[row], rtol=1e-3, atol=0)
        assert int(alone.gradients[0]) == int(whole.gradients[row])


class _Calls(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls, self.shapes = inner, [0], set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.requires_grad:
            self.calls[0] += 1
            self.shapes.add(len(images))
        return self.inner(images)


def test_images_that_are_won_make_room_for_others() -> None:
    # 30 easy images and 2 hard ones in places of 4: without compaction each batch with a hard
    # image takes all 41 points, and a batch of easy ones as long as its slowest image.
    model = affine_classifier()
    counted = _Calls(model)
    wrapped = Classifier.from_scores(counted, image_shape=SHAPE).double()
    images = torch.rand(32, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    objective = misclassify(wrapped, model(images).argmax(1))
    eps = torch.full((32,), 2.0, dtype=torch.float64)
    eps[[3, 17]] = 1e-6
    counted.calls[0] = 0
    counted.shapes.clear()
    result = attacks.run_attack(
        "apgd", objective, images, Threat("l2", eps), steps=40, batch_size=4
    )
    assert int(result.success.sum()) == 30
    assert counted.shapes == {4}
    assert bool((result.gradients[[3, 17]] == 41).all())
    assert counted.calls[0] <= 41 + 41
    assert int(result.gradients.sum()) <= 4 * counted.calls[0]


def test_checkpoints_are_those_of_the_paper() -> None:
    windows = checkpoints(100, "l2")
    assert torch.nonzero(windows)[:, 0].tolist() == [22, 41, 57, 70, 80, 87, 93, 99]
    assert [int(w) for w in windows[windows > 0]] == [22, 19, 16, 13, 10, 7, 6, 6]


WINDOW = 4


def sizes_after(losses: list[float]) -> list[float]:
    """The steps in units of eps, from checkpoint to checkpoint, of a run that sees these losses."""
    clean = torch.zeros(1, 1, 1, 1)
    slots = empty_slots(clean, 1)
    begin_run(slots, 0, clean[0], "l2")
    windows = torch.zeros(len(losses) + 1, dtype=torch.int64)
    windows[WINDOW::WINDOW] = WINDOW
    found = []
    for loss in losses:
        slots.points.fill_(loss)  # so that it shows from which point it goes on
        count_in(slots, clean, Threat("l2", 1.0), (torch.tensor([loss]), clean + 1.0), windows)
        if int(windows[slots.count]):
            found.append(float(slots.size))
        slots.count.add_(1)
    return found


def test_a_run_that_rises_and_gets_no_higher_halves_its_step_every_other_time() -> None:
    # Condition 2 of Croce and Hein alone: three of four steps rise in every window, so that
    # condition 1 is silent, and the highest loss stays the first.
    first, low = [10.0], [1.0, 2.0, 3.0, 4.0]
    assert sizes_after(first + low) == [2.0]  # it is the highest since the start
    assert sizes_after(first + 2 * low) == [2.0, 1.0]
    # The step has just been halved, so the next window is given to the new one.
    assert sizes_after(first + 3 * low) == [2.0, 1.0, 1.0]
    assert sizes_after(first + 5 * low) == [2.0, 1.0, 1.0, 0.5, 0.5]
    # With a higher loss in the second window there is no reason.
    assert sizes_after([*first, *low, 1.0, 2.0, 3.0, 11.0]) == [2.0, 2.0]
    # As high as before is not higher.
    assert sizes_after([*first, *low, 1.0, 2.0, 3.0, 10.0]) == [2.0, 1.0]


def test_a_window_in_which_too_few_steps_rise_halves_the_step() -> None:
    # Condition 1 alone: the loss ends higher than ever, by two rises of four.
    assert sizes_after([0.0, -1.0, -2.0, 1.0, 2.0]) == [1.0]
    assert sizes_after([0.0, -1.0, 1.0, 2.0, 3.0]) == [2.0]


def test_a_loss_without_enough_classes_is_refused() -> None:
    images = some_images(3)
    for classes, loss in ((2, "dlr"), (3, "dlr-targeted")):
        model = small_classifier(classes=classes)
        objective = misclassify(model, model(images).argmax(1))
        with pytest.raises(
            InputError, match=f"needs {classes + 1} classes and there are {classes}"
        ):
            attacks.run_attack("apgd", objective, images, Threat("l2", 1.0), loss=loss)
    bare = Objective(lambda points: points.flatten(1).sum(dim=1))
    with pytest.raises(InputError, match="use loss='margin'"):
        attacks.run_attack("apgd", bare, images, Threat("l2", 1.0), loss="ce")
    with pytest.raises(InputError, match="known: ce, dlr"):
        attacks.run_attack("apgd", bare, images, Threat("l2", 1.0), loss="cross")
    with pytest.raises(InputError, match="steps=0"):
        attacks.run_attack("apgd", bare, images, Threat("l2", 1.0), steps=0)


def test_two_classes_are_treated() -> None:
    problem = problems()[2]
    threat = Threat("l2", 1.05 * problem.optimum("l2"), None)
    for loss in ("margin-targeted", "ce"):
        result = attacks.run_attack(
            "apgd", problem.objective, problem.images, threat, loss=loss, restarts=2, batch_size=7
        )
        assert bool(result.success.all())
