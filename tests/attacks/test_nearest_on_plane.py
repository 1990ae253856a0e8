"""The projection onto a plane within the box, against quadratic and linear programming."""

import numpy as np
import pytest
import torch

from robustcl.attacks.nearest_on_plane import nearest_on_plane
from robustcl.core.choices import NORMS, Norm
from robustcl.core.threat import perturbation_norm
from tests.nearest_point import nearest_point

BOX = (0.0, 1.0)


def planes() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(12, 1, 3, 4, generator=generator, dtype=torch.float64)
    gradient = torch.randn(12, 1, 3, 4, generator=generator, dtype=torch.float64)
    rise = 3.0 * torch.rand(12, generator=generator, dtype=torch.float64)
    images[0, 0, 0], images[1, 0, 1] = 0.0, 1.0
    gradient[2, 0, 0] = 0.0
    gradient[3] *= 1e-30
    rise[3] *= 1e-30
    return images, gradient, rise


@pytest.mark.parametrize("box", [None, BOX])
@pytest.mark.parametrize("norm", NORMS)
def test_it_is_the_least_perturbation(norm: Norm, box: tuple[float, float] | None) -> None:
    images, gradient, rise = planes()
    move = nearest_on_plane(images, gradient, rise, norm=norm, box=box)
    gained = (gradient * move).flatten(1).sum(dim=1)
    torch.testing.assert_close(gained / rise, torch.ones_like(rise), rtol=1e-9, atol=0)
    for row in range(len(images)):
        scale = float(gradient[row].abs().max())
        flat = images[row].flatten().numpy()
        plane = np.append(gradient[row].flatten().numpy() / scale, float(rise[row]) / scale)[None]
        low = box[0] - flat if box else np.full(12, -np.inf)
        high = box[1] - flat if box else np.full(12, np.inf)
        least = nearest_point(plane, norm=norm, low=low, high=high, scale=1.0)[1]
        length = float(perturbation_norm(move[row : row + 1], norm)[0])
        assert length == pytest.approx(least, rel=1e-6)
    if box:
        assert bool(((images + move >= -1e-12) & (images + move <= 1 + 1e-12)).all())


@pytest.mark.parametrize("norm", NORMS)
def test_where_the_plane_is_out_of_reach_all_is_given(norm: Norm) -> None:
    images, gradient, rise = planes()
    move = nearest_on_plane(images, gradient, 1e3 * rise, norm=norm, box=BOX)
    corner = torch.where(gradient > 0, 1.0 - images, -images) * (gradient != 0)
    rows = [row for row in range(12) if row != 3]
    torch.testing.assert_close(move[rows], corner[rows])
    nothing = nearest_on_plane(images, 0.0 * gradient, rise, norm=norm, box=BOX)
    assert not bool(nothing.any())
    assert not bool(nearest_on_plane(images, gradient, -rise, norm=norm, box=BOX).any())
