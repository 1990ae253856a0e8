"""The projection onto the L1 ball within the box, against bisection and quadratic programming."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from robustcl.core.threat import project_l1

Box = tuple[float, float] | None


def points() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(40, 1, 3, 4, generator=generator, dtype=torch.float64)
    candidates = images + torch.randn(images.shape, generator=generator, dtype=torch.float64)
    images[0], images[1, 0, 0], images[2] = 0.0, 1.0, 0.5
    candidates[2] = 0.9  # ties: all pixels are alike
    candidates[3] = images[3]
    radii = torch.rand(40, generator=generator, dtype=torch.float64) * 6.0
    radii[4], radii[5] = 0.0, 100.0
    return images, candidates, radii


def by_bisection(image: np.ndarray, candidate: np.ndarray, radius: float, box: Box) -> np.ndarray:
    delta = candidate - image
    room = np.full_like(image, np.inf)
    if box:
        room = np.where(delta > 0, box[1] - image, image - box[0])
    low, high = 0.0, float(np.abs(delta).max()) + 1.0
    if np.minimum(np.abs(delta), room).sum() <= radius:
        return image + np.sign(delta) * np.minimum(np.abs(delta), room)
    for _ in range(200):
        middle = (low + high) / 2.0
        moves = np.minimum((np.abs(delta) - middle).clip(min=0.0), room)
        low, high = (middle, high) if moves.sum() > radius else (low, middle)
    return image + np.sign(delta) * np.minimum((np.abs(delta) - high).clip(min=0.0), room)


@pytest.mark.parametrize("box", [None, (0.0, 1.0)])
def test_it_is_what_bisection_finds(box: Box) -> None:
    images, candidates, radii = points()
    moved = project_l1(images, candidates, radii, box)
    for row in range(len(images)):
        pair = (images[row].flatten().numpy(), candidates[row].flatten().numpy())
        wanted = torch.from_numpy(by_bisection(*pair, float(radii[row]), box))
        torch.testing.assert_close(moved[row].flatten(), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("box", [None, (0.0, 1.0)])
def test_no_allowed_point_is_nearer(box: Box) -> None:
    images, candidates, radii = points()
    moved = project_l1(images, candidates, radii, box)
    for row in (6, 7, 8):
        start, goal = images[row].flatten().numpy(), candidates[row].flatten().numpy()
        size = len(start)  # x + p - q, with p and q from 0 upwards
        ends = np.concatenate([box[1] - start, start - box[0]]) if box else [None] * 2 * size

        def far(parts: np.ndarray, goal: np.ndarray = goal - start) -> float:
            more, less = np.split(parts, 2)
            return float(np.square(more - less - goal).sum())

        limit = {"type": "ineq", "fun": lambda parts, r=float(radii[row]): r - parts.sum()}
        found = minimize(
            far, np.zeros(2 * size), bounds=[(0.0, end) for end in ends], constraints=[limit],
            method="SLSQP", options={"maxiter": 500, "ftol": 1e-12},
        )  # fmt: skip
        own = float((moved[row] - candidates[row]).square().sum())
        assert own <= found.fun + 1e-6
        assert own >= found.fun - 1e-4


def test_rounding_adds_up_to_no_more_than_the_budget() -> None:
    # 3072 pixels that all move: each is rounded by up to 3e-8.
    generator = torch.Generator().manual_seed(0)
    images = 0.2 + 0.6 * torch.rand(8, 3, 32, 32, generator=generator)
    candidates = images + 0.1 * (1.0 + 0.1 * torch.rand(images.shape, generator=generator))
    radii = torch.full((8,), 100.0)
    moved = project_l1(images, candidates, radii, (0.0, 1.0))
    norms = (moved.double() - images.double()).abs().flatten(1).sum(dim=1)
    assert bool((norms <= 100.0).all())
    assert bool((norms >= 100.0 * (1.0 - 3e-6)).all())
    assert bool(((moved - images).abs() > 0).float().mean() > 0.9)
