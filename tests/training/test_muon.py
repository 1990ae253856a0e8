"""Muon against its definition."""

import torch
from torch import nn

from robustcl.training.optimizers import Muon, nearly_orthogonal


def test_singular_values_come_near_one_and_directions_stay() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((6, 20), (20, 6), (12, 12)):
        matrix = torch.randn(shape, generator=generator) * 1e-3
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        found = nearly_orthogonal(matrix)
        # In the basis of the matrix's own singular vectors the result is diagonal.
        turned = left.T @ found @ right.T
        diagonal = turned.diagonal()[values > 0.02 * values[0]]
        assert bool(((diagonal > 0.6) & (diagonal < 1.3)).all())
        assert float((turned - turned.diagonal().diag()).abs().max()) < 0.1


def test_steps_are_those_of_the_definition() -> None:
    generator = torch.Generator().manual_seed(1)
    matrix, vector = torch.randn(2, 4, 3, 2, 2, generator=generator)
    kernel, offset = nn.Parameter(matrix.clone()), nn.Parameter(vector.flatten().clone())
    optimizer = Muon([kernel, offset], lr=9.0, momentum=0.8, weight_decay=0.1, side=0.5)
    reference = torch.optim.Adam([twin := nn.Parameter(offset.detach().clone())])
    velocity, wanted = torch.zeros(4, 12), matrix.flatten(1).clone()
    for rate in (0.3, 0.1, 0.2):
        slope, side = torch.randn(2, 4, 3, 2, 2, generator=generator)
        kernel.grad, offset.grad, twin.grad = slope, side.flatten(), side.flatten().clone()
        optimizer.param_groups[0]["lr"] = rate
        reference.param_groups[0]["lr"] = 0.5 * rate
        optimizer.step()
        reference.step()
        flat = slope.flatten(1)
        velocity = 0.8 * velocity + 0.2 * flat
        update = nearly_orthogonal(0.8 * velocity + 0.2 * flat)
        wanted = (1.0 - rate * 0.1) * wanted - rate * update
    torch.testing.assert_close(kernel.detach().flatten(1), wanted, rtol=0, atol=0.02)
    torch.testing.assert_close(offset.detach(), twin.detach(), rtol=1e-3, atol=1e-4)
