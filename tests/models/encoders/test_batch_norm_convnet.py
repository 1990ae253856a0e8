"""The small network with BatchNorm: shapes, and that certificates take it."""

import pytest
import torch
from torch import nn

from robustcl.core.errors import InputError
from robustcl.models.encoders import batch_norm_convnet


@pytest.mark.parametrize("side", [7, 8, 32])
def test_shapes(side: int) -> None:
    network = batch_norm_convnet(channels=1, image_size=side, width=4, embedding_size=5).eval()
    assert network(torch.rand(2, 1, side, side)).shape == (2, 5)
    assert sum(isinstance(part, nn.BatchNorm2d) for part in network) == 3


def test_refuses_no_size() -> None:
    with pytest.raises(InputError, match="image_size 0"):
        batch_norm_convnet(image_size=0)
