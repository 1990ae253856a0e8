"""Call a model on batches of one fixed shape only.

The last bits of a network's output depend on the batch size, since libraries choose their
kernels by it. With one shape everywhere the verdict on an image is the same alone and in any
batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from robustcl.errors import InputError


def padded(function: Callable[[Tensor], Tensor], images: Tensor, *, batch_size: int) -> Tensor:
    """Apply a function to images in batches of exactly `batch_size`.

    Args:
        function: (batch_size, ...) to (batch_size, ...), row by row.
        images: (N, ...) images, N >= 0.
        batch_size: Rows per call; the last batch is filled up by repeating its last image.

    Returns:
        (N, ...) the results of the true rows.

    Raises:
        InputError: When `batch_size` is below 1 or there is no image.
    """
    if batch_size < 1:
        raise InputError(f"batch_size {batch_size} is below 1; use a positive batch size")
    if not len(images):
        raise InputError("there are no images; give at least one")
    results = []
    for chunk in images.split(batch_size):
        results.append(function(fill(chunk, batch_size))[: len(chunk)])
    return torch.cat(results)


def fill(rows: Tensor, batch_size: int) -> Tensor:
    """Repeat the last row until there are `batch_size` rows.

    Args:
        rows: (R, ...), 1 <= R <= batch_size.
        batch_size: Rows wanted.

    Returns:
        (batch_size, ...).
    """
    missing = batch_size - len(rows)
    return rows if missing <= 0 else torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])
