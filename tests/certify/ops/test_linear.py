"""Linear layers keep, when others are folded into them, the sizes that rounding is relative to."""

import torch

from robustcl.certify.ops.linear import Weights


def test_a_folded_rotation_keeps_the_sizes_of_biases_that_cancel() -> None:
    weight = torch.eye(4, dtype=torch.float64)
    bias = torch.tensor([1e8, -1e8, 3.0, 1.0], dtype=torch.float64)
    folded = Weights(weight, bias, None, None, (4,)).rotated()
    assert folded is not None
    plain, mixed = folded
    # Half the sum and half the difference of each pair: both are as exact as what they are of.
    assert mixed.offset is not None
    assert mixed.offset.flatten().tolist() == [0.0, 1e8, 2.0, 1.0]
    size = torch.as_tensor(mixed.offset_size).flatten()
    assert bool((size >= bias.abs().view(2, 2).mean(dim=1).repeat_interleave(2)).all())
    assert torch.equal(torch.as_tensor(plain.offset_size).flatten(), bias.abs())


def test_a_folded_batch_norm_keeps_the_sizes_of_what_it_adds() -> None:
    weight = torch.eye(2, dtype=torch.float64)
    bias = torch.tensor([5.0, -2.0], dtype=torch.float64)
    factor = torch.tensor([2.0, 3.0], dtype=torch.float64)
    offset = torch.tensor([-10.0, 6.0], dtype=torch.float64)
    folded = Weights(weight, bias, None, None, (2,)).scaled(factor, offset, offset.abs())
    assert folded is not None
    operation = folded.operation()
    assert operation.offset is not None
    assert operation.offset.flatten().tolist() == [0.0, 0.0]
    assert torch.as_tensor(operation.offset_size).flatten().tolist() == [20.0, 12.0]
