"""ddn finds the nearest point where it is known."""

from typing import Any

import pytest
import torch

from robustcl import attacks
from robustcl.core.choices import NORMS, Norm
from robustcl.core.errors import InputError
from robustcl.core.threat import Threat
from tests.attacks.known_answers import alone_as_in_a_batch, problems, reaches_the_optimum


@pytest.mark.parametrize("batch_size", [1, 3, 7])
@pytest.mark.parametrize("norm", ["l2"])
def test_within_one_percent_of_the_optimum(norm: Norm, batch_size: int) -> None:
    reaches_the_optimum("ddn", norm, batch_size)


@pytest.mark.parametrize("norm", ["l2"])
def test_alone_as_in_a_batch(norm: Norm) -> None:
    alone_as_in_a_batch("ddn", norm, 3)


def test_the_search_itself_comes_within_its_step_of_the_norm() -> None:
    for problem in problems():
        best = problem.optimum("l2")
        threat = Threat("l2", 3.0 * float(best.max()), problem.box)
        result = attacks.run_attack("ddn", problem.objective, problem.images, threat, batch_size=7)
        assert bool((result.radius <= 1.05 * best).all()), problem.name


def test_linf_is_refused() -> None:
    problem = problems()[0]
    with pytest.raises(InputError, match="use fmn"):
        attacks.ddn(problem.objective, problem.images, Threat("linf", 1.0))
    assert attacks.ATTACKS["ddn"].norms == ("l2",)
    assert NORMS != ("l2",)


def test_options_that_do_nothing_are_refused() -> None:
    problem = problems()[0]
    options: dict[str, Any]
    for options in ({"steps": 0}, {"restarts": 0}, {"gamma": 1.0}, {"step_size": 0.0}):
        with pytest.raises(InputError, match="use 1 or more"):
            attacks.ddn(problem.objective, problem.images, Threat("l2", 1.0), **options)
    assert torch.is_tensor(problem.images)
