"""Problems of which the nearest adversarial is known, for every attack."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustcl import attacks
from robustcl.core.choices import Norm
from robustcl.core.classifier import Classifier
from robustcl.core.objectives import Objective, misclassify
from robustcl.core.threat import perturbation_norm
from tests.affine import SHAPE, affine_classifier
from tests.nearest_point import nearest_point

Box = tuple[float, float] | None
COUNT = 7


@dataclass(frozen=True, eq=False)
class Problem:
    """An objective, images, and the distance to the nearest point that wins.

    Args:
        name: For messages.
        objective: The objective.
        images: (7, C, H, W) float64.
        box: Pixel range, or None.
        optimum: Norm to (7,) distances.
    """

    name: str
    objective: Objective
    images: Tensor
    box: Box
    optimum: Callable[[Norm], Tensor]


class _Sphere(nn.Module):
    center: Tensor

    # Two classes; the second leads outside of a sphere (sign 1) or inside of it (sign -1).
    def __init__(self, center: Tensor, radius: float, sign: float) -> None:
        super().__init__()
        self.register_buffer("center", center)
        self.radius, self.sign = radius, sign

    def forward(self, images: Tensor) -> Tensor:
        square = (images - self.center).flatten(1).square().sum(dim=1)
        lead = self.sign * (square - self.radius**2)
        return torch.stack([-lead, lead], dim=1)


@cache
def problems() -> tuple[Problem, ...]:
    """Affine scores with and without the box, and spheres seen from inside and from outside."""
    return (_affine(None), _affine((0.0, 1.0)), _sphere(1.0), _sphere(-1.0))


def some_points() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(COUNT, *SHAPE, generator=generator, dtype=torch.float64)


def _affine(box: Box) -> Problem:
    model, images = affine_classifier(seed=3), some_points()
    with torch.no_grad():  # steep and flat classes: the nearest is often not the runner-up
        steepness = torch.tensor([[0.2], [1.0], [3.0], [0.5], [2.0]], dtype=torch.float64)
        model.encoder.backbone[1].weight.mul_(steepness)  # pyright: ignore[reportIndexIssue]
    if box:
        # Corners of the box hold many pixels back.
        images = (2.0 * images - 0.5).clamp(*box)
    left = model(images).argmax(1)
    layer = model.encoder.backbone[1]  # pyright: ignore[reportIndexIssue]
    weight = layer.weight.detach().double() / 0.5
    scores = model(images).detach()

    def optimum(norm: Norm) -> Tensor:
        return torch.tensor(
            [
                min(
                    _plane(images[row], weight[k] - weight[own], scores[row, own] - scores[row, k],
                           norm, box)
                    for k in range(len(weight)) if k != own
                )
                for row, own in enumerate(left.tolist())
            ],
            dtype=torch.float64,
        )  # fmt: skip

    name = f"affine, {'box' if box else 'no box'}"
    return Problem(name, misclassify(model, left), images, box, cache(optimum))


def _plane(image: Tensor, slope: Tensor, rise: Tensor, norm: Norm, box: Box) -> float:
    flat = image.flatten().numpy()
    low = box[0] - flat if box else np.full(len(flat), -np.inf)
    high = box[1] - flat if box else np.full(len(flat), np.inf)
    half_space = np.append(slope.numpy(), float(rise))[None]
    return nearest_point(half_space, norm=norm, low=low, high=high, scale=1.0)[1]


def _sphere(sign: float) -> Problem:
    images = some_points()
    center = torch.full(SHAPE, 0.5, dtype=torch.float64)
    radius = 3.0 if sign > 0 else 0.8
    network = _Sphere(center, radius, sign).double()
    model = Classifier.from_scores(network, image_shape=SHAPE)
    away = (images - center).abs().flatten(1)
    length = torch.linalg.vector_norm(away, dim=1)

    def optimum(norm: Norm) -> Tensor:
        if norm == "l2":
            return (length - radius).abs()
        if norm == "l1" and sign > 0:  # all is spent on the pixel that is farthest out
            rest = length.square() - away.amax(dim=1).square()
            return (radius**2 - rest).sqrt() - away.amax(dim=1)
        low, high = torch.zeros(COUNT).double(), torch.ones(COUNT).double()
        if (
            norm == "l1"
        ):  # the pixels farthest out are cut to one level, with which the sphere is met
            for _ in range(60):
                middle = (low + high) / 2.0
                cut = away.minimum(middle[:, None])
                inside = torch.linalg.vector_norm(cut, dim=1) < radius
                low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
            return (away - low[:, None]).clamp_min(0.0).sum(dim=1)
        for _ in range(60):
            middle = (low + high) / 2.0
            moved = (away + sign * middle[:, None]).clamp_min(0.0)
            wins = sign * (torch.linalg.vector_norm(moved, dim=1) - radius) > 0
            low, high = torch.where(wins, low, middle), torch.where(wins, middle, high)
        return high

    left = torch.zeros(COUNT, dtype=torch.int64)
    name = f"sphere seen from {'inside' if sign > 0 else 'outside'}"
    return Problem(name, misclassify(model, left), images, None, optimum)


def reaches_the_optimum(attack: str, norm: Norm, batch_size: int, share: float = 1.01) -> None:
    """Assert that an attack comes within a share of every known optimum, and never below it."""
    rows = torch.arange(3 if batch_size == 1 else COUNT)
    for problem in problems():
        best, images = problem.optimum(norm)[rows], problem.images[rows]
        result = attacks.attacked_radius(
            attack, problem.objective.select(rows), images, norm=norm, box=problem.box,
            eps_grid=[float(best.max()) / 2.0, 3.0 * float(best.max())], batch_size=batch_size,
        )  # fmt: skip
        ratio = result.radius / best
        assert bool((ratio >= 1.0 - 1e-6).all()), (problem.name, ratio)
        assert bool((ratio <= share).all()), (problem.name, ratio)
        moved = perturbation_norm(result.adversarials - images, norm)
        torch.testing.assert_close(moved, result.radius)
        if problem.box:
            assert bool(((result.adversarials >= 0) & (result.adversarials <= 1)).all())


def alone_as_in_a_batch(attack: str, norm: Norm, batch_size: int, **options: Any) -> None:
    """Assert that each image of the last problem gets the same radius alone."""
    problem = problems()[1]
    top = 2.0 * float(problem.optimum(norm).max())
    known: dict[str, Any] = {
        "norm": norm,
        "eps_grid": [top],
        "box": problem.box,
        "batch_size": batch_size,
    }
    whole = attacks.attacked_radius(attack, problem.objective, problem.images, **known, **options)
    for row in (0, COUNT - 1):
        only = torch.tensor([row])
        single = attacks.attacked_radius(
            attack, problem.objective.select(only), problem.images[only], seeds=[row], **known,
            **options,
        )  # fmt: skip
        torch.testing.assert_close(single.radius[0], whole.radius[row], rtol=1e-6, atol=0)
