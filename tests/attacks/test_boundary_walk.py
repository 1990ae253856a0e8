"""boundary_walk finds the nearest point where it is known."""

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
    reaches_the_optimum("boundary_walk", norm, batch_size)


@pytest.mark.parametrize("norm", NORMS)
def test_alone_as_in_a_batch(norm: Norm) -> None:
    alone_as_in_a_batch("boundary_walk", norm, 3)


# In L1 projections move few pixels all the way, so the end of a walk is left to the polish.
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_walk_from_a_far_point_reaches_the_nearest_one(norm: Norm) -> None:
    for problem in problems()[2:]:
        generator = torch.Generator().manual_seed(5)
        aside = torch.randn(problem.images.shape, generator=generator, dtype=torch.float64)
        step = 1.0 if "inside" in problem.name else -1.0
        far = problem.images + 9.0 * step * (problem.images - 0.5) + 0.3 * aside
        if step < 0:
            far = 0.5 + 0.05 * aside
        assert bool((problem.objective.margin(far) > 0).all())
        result = attacks.run_attack(
            "boundary_walk", problem.objective, problem.images, Threat(norm, 99.0, problem.box),
            starts=far, batch_size=7, polish=0, steps=60,
        )  # fmt: skip
        ratio = result.radius / problem.optimum(norm)
        assert bool((ratio <= 1.01).all()), (problem.name, ratio)


@pytest.mark.parametrize("begin", ["rivals", "fmn", "ddn", "deepfool"])
def test_it_is_never_farther_than_where_it_began(begin: str) -> None:
    problem = problems()[2]
    threat = Threat("l2", 9.0, problem.box)
    walked = attacks.run_attack(
        "boundary_walk", problem.objective, problem.images, threat, begin=begin, batch_size=7
    )
    first = "fmn" if begin == "rivals" else begin
    before = attacks.run_attack(first, problem.objective, problem.images, threat, batch_size=7)
    assert bool((walked.radius <= before.radius * (1 + 1e-6)).all())


def test_without_a_winning_start_there_is_no_walk() -> None:
    problem = problems()[0]
    search = attacks.boundary_walk(
        problem.objective, problem.images, Threat("l2", 9.0, None), starts=problem.images, polish=0
    )
    assert torch.equal(search.candidates, problem.images)
    assert not bool(search.gradients.any())


def test_unknown_beginnings_are_refused() -> None:
    problem = problems()[0]
    with pytest.raises(InputError, match="rivals"):
        attacks.boundary_walk(problem.objective, problem.images, Threat("l2", 1.0), begin="pdg")


def test_starts_that_do_not_fit_are_refused() -> None:
    problem = problems()[0]
    threat = Threat("l2", 1.0, None)
    with pytest.raises(InputError, match="pgd takes no starts"):
        attacks.run_attack("pgd", problem.objective, problem.images, threat, starts=problem.images)
    with pytest.raises(InputError, match="one point per image"):
        attacks.run_attack(
            "boundary_walk", problem.objective, problem.images, threat, starts=problem.images[:2]
        )
