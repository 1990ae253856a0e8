"""Repair the first stripes of the package's Square attack in L2."""

from typing import Any

from torch import Tensor


def square_tiles(height: int, width: int) -> list[tuple[int, int]]:
    """List the true sizes of the tiles with which Square starts in L2.

    The package lays tiles of side s = height // 5 from an offset, of which the last may reach over
    the edge; there it fails unless the tile is cut.

    Args:
        height: Rows, 5 or more.
        width: Columns.

    Returns:
        Height and width of each tile, row by row; 0 where nothing of it is inside.
    """
    side = height // 5
    offset = (height - 5 * side) // 2

    def inside(place: int, length: int) -> int:
        return max(0, min(side, length - offset - place * side))

    return [
        (inside(row, height), inside(column, width))
        for row in range(height // side)
        for column in range(width // side)
    ]


def cut_tiles(square: Any) -> None:
    """Make an attack object of the package cut its tiles at the edge.

    Args:
        square: The package's `SquareAttack`, which is changed.
    """
    run, eta = square.attack_single_run, square.eta
    tiles: list[tuple[int, int]] = []

    def start(images: Tensor, targets: Tensor) -> Any:
        tiles[:] = square_tiles(*images.shape[2:])[::-1]
        return run(images, targets)

    def cut(side: int) -> Any:
        return _Tile(eta(side), tiles.pop()) if tiles else eta(side)

    square.attack_single_run, square.eta = start, cut


class _Tile:
    # A tile that the package lays at the start by `tile.view(1, 1, s, s)`, cut at the edge.
    def __init__(self, tile: Tensor, size: tuple[int, int]) -> None:
        self.tile, self.size = tile, size

    def view(self, *shape: int) -> Tensor:
        return self.tile.view(*shape)[..., : self.size[0], : self.size[1]]
