"""Hold one view of an image that is an affine map with known matrices."""

import torch
from torch import Tensor, nn

from robustcl.core.errors import InputError


class LinearView(nn.Module):
    """Map every image by one matrix along its columns and one along its rows, plus an offset.

    Flips, shifts, resized crops and fixed noise are of this form; the norm of the map is the
    product of the matrices' norms, whatever the offset.

    Args:
        rows: (H, H) matrix R that mixes the rows of the image; None for the identity.
        columns: (W, W) matrix C that mixes its columns; None for the identity.
        offset: (C, H, W) added at the end; None for none.

    Raises:
        InputError: When a matrix is not square, so that the view would change the image's size.
    """

    rows: Tensor | None
    columns: Tensor | None
    offset: Tensor | None

    def __init__(
        self,
        rows: Tensor | None = None,
        columns: Tensor | None = None,
        offset: Tensor | None = None,
    ) -> None:
        super().__init__()
        for name, matrix in (("rows", rows), ("columns", columns)):
            if matrix is not None and (matrix.ndim != 2 or len(matrix) != matrix.shape[1]):
                raise InputError(
                    f"{name} of shape {tuple(matrix.shape)} change the image's size; a view keeps "
                    "it, so give a square matrix"
                )
        for name, tensor in (("rows", rows), ("columns", columns), ("offset", offset)):
            kept = None if tensor is None else tensor.detach().float().clone()
            self.register_buffer(name, kept)

    def forward(self, images: Tensor) -> Tensor:
        """Return R x C^T + offset.

        Args:
            images: (B, C, H, W).

        Returns:
            (B, C, H, W); the images themselves where the view is the identity.
        """
        if self.columns is not None:
            images = images @ self.columns.to(images.dtype).T
        if self.rows is not None:
            images = self.rows.to(images.dtype) @ images
        return images if self.offset is None else images + self.offset.to(images.dtype)


def shifted(size: int, by: int, *, flipped: bool = False) -> Tensor:
    """Make the matrix that shifts an axis and fills up with zeros.

    Args:
        size: Length of the axis.
        by: Pixels towards higher positions, negative for lower.
        flipped: Whether the axis is reversed first.

    Returns:
        (size, size) with at most one 1 in every row and column.
    """
    matrix = torch.diag(torch.ones(size - min(abs(by), size)), -by) if by else torch.eye(size)
    return matrix.flip(1) if flipped else matrix


def resized(size: int, start: int, length: int, *, flipped: bool = False) -> Tensor:
    """Make the matrix that cuts a piece out of an axis and stretches it bilinearly to the full one.

    Sampling stops at the edge of the piece, as in `resized_crop`.

    Args:
        size: Length of the axis.
        start: First pixel of the piece.
        length: Its pixels.
        flipped: Whether the axis is reversed first.

    Returns:
        (size, size); every row has at most two entries, which sum to 1.
    """
    position = (torch.arange(size, dtype=torch.float64) + 0.5) * length / size - 0.5
    position = position.clamp(0.0, length - 1.0)
    low = position.floor().clamp(max=max(length - 2, 0))
    share = position - low
    index = low.long() + start
    matrix = torch.zeros(size, size, dtype=torch.float64)
    row = torch.arange(size)
    matrix[row, index] += 1.0 - share
    matrix[row, (index + 1).clamp(max=start + length - 1)] += share
    matrix = matrix.float()
    return matrix.flip(1) if flipped else matrix
