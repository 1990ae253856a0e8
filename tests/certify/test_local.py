"""The staircase against bisection over the radius, with and without what is lost to a bend."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from robustcl.certify._local import staircase

Numbers = np.ndarray


def holds(
    radius: float, margin: float, slopes: Numbers, bent: Numbers, edges: Numbers, beyond: float
) -> bool:
    """Whether the margin is positive throughout the ball, by the bounds of the balls around it.

    What is known about a ball of an edge holds in every ball inside. So the slope at a distance is
    at most that of any ball that reaches there, and what the bend costs up to a radius is what it
    costs in the smallest ball that holds all of it; outside of all balls only `beyond` is known,
    and of bends nothing, unless there are none.
    """
    if radius > edges[-1] and bent[-1] > 0:
        return False
    lost, inner = 0.0, 0.0
    for step, edge in enumerate(edges):
        lost += min(beyond, slopes[step:].min()) * max(min(radius, edge) - inner, 0.0)
        inner = edge
    lost += beyond * max(radius - inner, 0.0)
    around = int(np.searchsorted(edges, radius))  # the first edge at or outside the radius
    return margin - lost - (bent[around] if around < len(edges) else 0.0) > 0


def slow_radius(*known) -> float:
    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2.0
        low, high = (middle, high) if holds(middle, *known) else (low, middle)
    return low


def climbed(margin: float, slopes, bent, edges, beyond: float) -> float:
    slope, bend, edge = (torch.from_numpy(np.asarray(p, float)) for p in (slopes, bent, edges))
    start, last = (torch.tensor([[number]], dtype=torch.float64) for number in (margin, beyond))
    return float(staircase(start, slope[None, :, None], bend[None, :, None], edge[None], last))


def random_stairs(seed: int) -> tuple[float, Numbers, Numbers, Numbers, float]:
    draws = np.random.default_rng(seed)
    count = int(draws.integers(1, 6))
    edges = np.cumsum(draws.uniform(0.1, 1.0, count))
    slopes = draws.uniform(0.2, 3.0, count)  # in no order: a larger ball may have the better bound
    bent = np.cumsum(draws.uniform(0.0, 0.4, count)) * (draws.random() < 0.8)
    if draws.random() < 0.3:
        bent[0] = 0.0
    return float(draws.uniform(0.0, 4.0)), slopes, bent, edges, float(draws.uniform(0.5, 4.0))


def test_the_staircase_is_what_bisection_over_the_radius_finds() -> None:
    kinds = {"inside the first": 0, "inside": 0, "at an edge": 0, "at the last": 0, "outside": 0}
    for seed in range(600):
        known = random_stairs(seed)
        exact, found, edges = slow_radius(*known), climbed(*known), known[3]
        assert found <= exact * (1 + 1e-12), seed
        assert found == pytest.approx(exact, rel=1e-8, abs=1e-12), seed
        near = np.isclose(exact, edges, rtol=1e-9)
        if exact > edges[-1] * (1 + 1e-9):
            kinds["outside"] += 1
        elif near.any():
            kinds["at the last" if near[-1] else "at an edge"] += 1
        else:
            kinds["inside the first" if exact < edges[0] else "inside"] += 1
    assert min(kinds.values()) >= 20, kinds


def test_a_bend_is_paid_at_the_edge_around_the_radius() -> None:
    # Slope 1 throughout, margin 2, edges at 1 and 3.
    slopes, edges = [1.0, 1.0], [1.0, 3.0]
    assert climbed(2.0, slopes, [0.0, 0.5], edges, 1.0) == pytest.approx(1.5)
    # The outer bend is paid outside the inner edge alone, the inner one up to there.
    assert climbed(2.0, slopes, [0.5, 0.5], edges, 1.0) == pytest.approx(1.5)
    assert climbed(2.0, slopes, [0.5, 9.0], edges, 1.0) == pytest.approx(1.0)
    assert climbed(2.0, slopes, [1.25, 9.0], edges, 1.0) == pytest.approx(0.75)
    assert climbed(2.0, slopes, [2.5, 9.0], edges, 1.0) == 0.0
    assert climbed(2.0, slopes, [math.inf, math.inf], edges, 1.0) == 0.0
    # Once it has ended it does not go on, though a later bound may again be the better one.
    assert climbed(2.0, slopes, [1.25, 0.0], edges, 1.0) == pytest.approx(0.75)


def test_beyond_the_last_edge_it_goes_on_only_where_nothing_bends() -> None:
    slopes, edges = [1.0, 1.0], [1.0, 2.0]
    assert climbed(8.0, slopes, [0.0, 0.0], edges, 3.0) == pytest.approx(2.0 + 6.0 / 3.0)
    for bent in ([0.0, 1e-6], [0.5, 0.5], [0.0, 1.0]):
        assert climbed(8.0, slopes, bent, edges, 3.0) == pytest.approx(2.0)
        assert climbed(8.0, slopes, bent, edges, 3.0) <= 2.0


def test_every_rival_has_its_own_bend() -> None:
    known = [random_stairs(seed) for seed in range(400)]
    known = [case for case in known if len(case[3]) == 3]
    edges = np.array([0.5, 1.0, 2.0])
    exact = [slow_radius(margin, s, b, edges, out) for margin, s, b, _, out in known]
    half = len(known) // 2

    def stacked(place: int) -> Tensor:
        rows = [torch.tensor(case[place], dtype=torch.float64) for case in known[: 2 * half]]
        return torch.stack(rows).unflatten(0, (2, half))

    found = staircase(
        stacked(0),
        stacked(1).transpose(1, 2),
        stacked(2).transpose(1, 2),
        torch.tensor(edges).expand(2, -1),
        stacked(4),
    )
    wanted = torch.tensor(exact[: 2 * half], dtype=torch.float64)
    torch.testing.assert_close(found.flatten(), wanted, rtol=1e-8, atol=1e-12)
