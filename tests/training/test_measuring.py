"""Monitors against loops and at points whose value is known."""

import math

import pytest
import torch

from robustcl.training import alignment, effective_rank, spread, uniformity

POINTS = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def units(points: torch.Tensor) -> list[torch.Tensor]:
    return [point / point.norm() for point in points]


def test_equal_loops() -> None:
    first, second = (units(points) for points in POINTS)
    near = sum(float((a - b).norm()) ** 2 for a, b in zip(first, second, strict=True)) / 7
    assert float(alignment(*POINTS)) == pytest.approx(near)
    pairs = [(i, j) for i in range(7) for j in range(i)]
    total = sum(math.exp(-2 * float((first[i] - first[j]).norm()) ** 2) for i, j in pairs)
    assert float(uniformity(POINTS[0])) == pytest.approx(math.log(total / len(pairs)))
    mean = torch.stack(first).mean(dim=0)
    variance = sum(float((point - mean).norm()) ** 2 for point in first) / 7
    assert float(spread(POINTS[0])) == pytest.approx(math.sqrt(variance))


def test_one_point_is_collapsed() -> None:
    same = torch.ones(5, 3) * torch.arange(1, 6)[:, None]
    assert float(spread(same)) == pytest.approx(0.0, abs=1e-6)
    assert float(uniformity(same)) == pytest.approx(0.0, abs=1e-6)
    assert float(alignment(same, same)) == pytest.approx(0.0, abs=1e-6)
    assert float(effective_rank(same)) == pytest.approx(1.0, abs=1e-4)


def test_opposite_and_orthogonal_points() -> None:
    both = torch.tensor([[1.0, 0.0], [-2.0, 0.0]])
    assert float(spread(both)) == pytest.approx(1.0)
    assert float(alignment(both[:1], both[1:])) == pytest.approx(4.0)
    assert float(uniformity(both)) == pytest.approx(-8.0)
    assert float(effective_rank(torch.eye(6))) == pytest.approx(6.0)
