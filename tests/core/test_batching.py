"""One batch shape, whatever the number of images."""

import pytest
import torch

from robustcl.core.batching import fixed_size
from robustcl.core.errors import InputError


@pytest.mark.parametrize("count", [1, 4, 6, 8])
def test_every_call_has_the_same_shape(count: int) -> None:
    shapes = []

    def double(rows: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(rows.shape))
        return 2 * rows

    rows = torch.arange(3.0 * count).view(count, 3)
    assert torch.equal(fixed_size(double, rows, batch_size=4), 2 * rows)
    assert set(shapes) == {(4, 3)}


def test_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="no images"):
        fixed_size(lambda rows: rows, torch.zeros(0, 3), batch_size=4)
