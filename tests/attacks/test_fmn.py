"""fmn finds the nearest point where it is known."""

from typing import Any

import pytest
import torch

from robustcl import attacks
from robustcl.core.choices import NORMS, Norm
from robustcl.core.errors import InputError
from robustcl.core.threat import Threat
from tests.attacks.known_answers import alone_as_in_a_batch, problems, reaches_the_optimum


@pytest.mark.parametrize("batch_size", [1, 3, 7])
@pytest.mark.parametrize("norm", NORMS)
def test_within_one_percent_of_the_optimum(norm: Norm, batch_size: int) -> None:
    reaches_the_optimum("fmn", norm, batch_size)


@pytest.mark.parametrize("norm", NORMS)
def test_alone_as_in_a_batch(norm: Norm) -> None:
    alone_as_in_a_batch("fmn", norm, 3)


@pytest.mark.parametrize("norm", NORMS)
def test_the_search_itself_is_as_near_before_anything_is_shrunk(norm: Norm) -> None:
    for problem in problems():
        best = problem.optimum(norm)
        threat = Threat(norm, 3.0 * float(best.max()), problem.box)
        result = attacks.run_attack("fmn", problem.objective, problem.images, threat, batch_size=7)
        assert bool((result.radius <= 1.01 * best).all()), problem.name


def test_nothing_is_found_below_the_optimum() -> None:
    problem = problems()[0]
    threat = Threat("l2", 0.99 * problem.optimum("l2"), problem.box)
    result = attacks.run_attack("fmn", problem.objective, problem.images, threat, batch_size=7)
    assert not bool(result.success.any())
    assert torch.equal(result.adversarials, problem.images)


def test_options_that_do_nothing_are_refused() -> None:
    problem = problems()[0]
    options: dict[str, Any]
    for options in ({"steps": 0}, {"restarts": 0}, {"gamma": 1.0}, {"step_size": 0.0}):
        with pytest.raises(InputError, match="use 1 or more"):
            attacks.fmn(problem.objective, problem.images, Threat("l2", 1.0), **options)
