"""The search for a radius: proved at what it returns, and close to where the bounds vanish."""

import pytest
import torch
from torch import Tensor

from robustcl.certify.search import CLOSE, CONFIRMATIONS, search

START = torch.tensor([[1.0, 0.0, 1.5, 4.0], [2.0, 1.0, 0.0, 2.0], [0.3, 0.0, 0.2, 0.1]]).double()
SLOPE = torch.tensor([[1.0, 0.0, 3.0, 1.0], [0.1, 2.0, 0.0, 5.0], [0.2, 0.0, 1.0, 0.3]]).double()
BEND = torch.tensor([[9.0, 0.0, 1.0, 7e3], [4e4, 8.0, 0.0, 1.0], [0.0, 0.0, 3e2, 1e5]]).double()
OWN = SLOPE == 0
CEILING = (START / SLOPE.clamp_min(1e-300)).masked_fill(OWN, torch.inf)


def bounds(power: float, cliff: float) -> "tuple[Tensor, list[float], object]":
    """m_j(r) = start - slope r - bend r^power, and -inf from the cliff on; and their zeros."""

    def at(radius: Tensor) -> Tensor:
        margins = START - SLOPE * radius[:, None] - BEND * radius[:, None] ** power
        return torch.where(radius[:, None] < cliff, margins, -torch.inf)

    grid = torch.linspace(0, 1.0, 200_001).double()
    tried: list[float] = []
    zeros = []
    for row in range(len(START)):
        margins = torch.stack([at(r.expand(len(START)))[row] for r in grid[::200]])
        positive = (margins > 0).masked_fill(OWN[row], True).all(dim=1)
        zeros.append(float(grid[::200][positive].max()))

    def evaluate(rows: Tensor, radius: Tensor, others: Tensor) -> Tensor:
        whole = torch.zeros(len(START)).double()
        whole[rows] = radius
        tried.extend(radius.tolist())
        return at(whole)[rows[:, None], others]

    return torch.tensor(zeros).double(), tried, evaluate


@pytest.mark.parametrize("cliff", [0.06, 9.0])
@pytest.mark.parametrize("power", [1.0, 2.0, 3.5, 9.0])
def test_ends_close_below_where_the_first_margin_vanishes(power: float, cliff: float) -> None:
    zeros, tried, evaluate = bounds(power, cliff)
    found = search(evaluate, START, CEILING, torch.zeros_like(START), steps=12)  # pyright: ignore[reportArgumentType]
    radius = found.masked_fill(OWN, torch.inf).amin(dim=1)
    assert bool((radius <= zeros + 1e-3).all())
    assert bool((radius >= zeros * (1 - 4 * CLOSE) - 2e-3).all())
    assert len(tried) <= 3 * (12 + CONFIRMATIONS)
    # Only radii that were tried, and at which the margin was positive, count.
    known = set(tried)
    for row, values in enumerate(found.tolist()):
        for rival, value in enumerate(values):
            assert value == 0.0 or value in known
            margin = START - SLOPE * value - BEND * value**power
            assert value < cliff and (OWN[row, rival] or float(margin[row, rival]) > 0)


def test_what_is_known_is_kept_and_not_tried_again() -> None:
    _, tried, evaluate = bounds(2.0, 9.0)
    known = CEILING.masked_fill(OWN, 0.0)
    found = search(evaluate, START, CEILING, known, steps=8)  # pyright: ignore[reportArgumentType]
    assert torch.equal(found, known)
    assert not tried
