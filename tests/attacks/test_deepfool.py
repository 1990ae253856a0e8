"""deepfool finds the nearest point where it is known."""

import pytest
import torch

from robustcl import attacks
from robustcl.core.choices import Norm
from robustcl.core.errors import InputError
from robustcl.core.threat import Threat
from tests.attacks.known_answers import alone_as_in_a_batch, problems, reaches_the_optimum


@pytest.mark.parametrize("batch_size", [1, 3, 7])
@pytest.mark.parametrize("norm", attacks.ATTACKS["deepfool"].norms)
def test_within_one_percent_of_the_optimum(norm: Norm, batch_size: int) -> None:
    reaches_the_optimum("deepfool", norm, batch_size)


@pytest.mark.parametrize("norm", attacks.ATTACKS["deepfool"].norms)
def test_alone_as_in_a_batch(norm: Norm) -> None:
    alone_as_in_a_batch("deepfool", norm, 3)


@pytest.mark.parametrize("norm", attacks.ATTACKS["deepfool"].norms)
def test_affine_scores_take_one_step(norm: Norm) -> None:
    for problem in problems()[:2]:
        best = problem.optimum(norm)
        threat = Threat(norm, 3.0 * float(best.max()), problem.box)
        result = attacks.run_attack(
            "deepfool", problem.objective, problem.images, threat, batch_size=7
        )
        assert bool((result.gradients == 4).all())  # one per other class of five classes
        assert bool((result.radius > best).all())  # lengthened by 2 %, where the box lets it
        assert bool((result.radius <= 1.0201 * best).all())


def test_fewer_rivals_cost_less_and_may_miss_the_nearest() -> None:
    problem = problems()[0]
    threat = Threat("l2", 9.0, problem.box)
    few = attacks.run_attack(
        "deepfool", problem.objective, problem.images, threat, batch_size=7, others=1
    )
    every = attacks.run_attack("deepfool", problem.objective, problem.images, threat, batch_size=7)
    assert int(few.gradients.sum()) < int(every.gradients.sum())
    assert bool((every.radius <= few.radius * (1 + 1e-9)).all())
    assert bool((every.radius < 0.99 * few.radius).any())


def test_a_flat_model_is_not_won() -> None:
    problem = problems()[0]
    flat = attacks.deepfool(
        type(problem.objective)(lambda images: 0.0 * images.flatten(1).sum(dim=1) - 1.0),
        problem.images,
        Threat("l2", 9.0, None),
    )
    assert torch.equal(flat.candidates, problem.images)


def test_options_that_do_nothing_are_refused() -> None:
    problem = problems()[0]
    with pytest.raises(InputError, match="steps=0"):
        attacks.deepfool(problem.objective, problem.images, Threat("l2", 1.0), steps=0)


def test_l1_is_refused() -> None:
    problem = problems()[0]
    with pytest.raises(InputError, match="use fmn"):
        attacks.run_attack("deepfool", problem.objective, problem.images, Threat("l1", 1.0))
