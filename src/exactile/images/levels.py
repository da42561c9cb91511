"""The levels of a pyramid, each half the size of the one before, made tile by tile.

    level 0, in tiles              level 1
    +-------+-------+- - -         +---+---+- - -
    | 0, 0  | 0, 1  |              |   |   |
    |       |       |              +---+---+        Each tile is made of the 2 x 2 that lie at its
    +-------+-------+       ->     |   |   |        place in the level before: no more is in memory.
    | 1, 0  | 1, 1  |              +---+---+
    |       |       |              |
    +-------+-------+

Nothing here knows where tiles are stored, nor what axes lie before Y and X. A level is made of the
stored pixels of the one before it, so its pixels do not depend on the side of the tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.geometry import Box
from exactile.images.downsampling import Downsampling, halve
from exactile.images.grid import cell, cell_count, cells_over

ReadTile = Callable[[int, int], NDArray[Any]]
"""Gives the tile at a row and a column, (..., Y, X): what lies inside the level, or more."""


def level_shapes(shape: tuple[int, int], side: int) -> tuple[tuple[int, int], ...]:
    """Return the shape (Y, X) of every level, the first that of the image.

    Sides are halved and rounded up, until one tile of `side` holds the level.
    """
    shapes = [shape]
    while max(shapes[-1]) > side:
        shapes.append(_half(shapes[-1]))
    return tuple(shapes)


def next_level(
    shape: tuple[int, int], side: int, read: ReadTile, how: Downsampling
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Yield row, column and pixels of every tile of the level after one of `shape`, row by row.

    `read` is asked once for each tile of that one. Tiles have the full side, (..., side, side),
    and are zero beyond the level; they belong to the caller. Raises ValueError for an odd `side`.
    """
    if side % 2:
        raise ValueError(f"tiles of {side} pixels cannot be halved; use an even side")
    for row, column in cells_over(Box.of_shape(_half(shape)), (side, side)):
        yield row, column, _tile(shape, side, read, how, row, column)


def _tile(
    shape: tuple[int, int], side: int, read: ReadTile, how: Downsampling, row: int, column: int
) -> NDArray[Any]:
    step = (side, side)
    rows, columns = cell_count(shape, step)
    tile: NDArray[Any] | None = None
    for y in range(2 * row, min(2 * row + 2, rows)):
        for x in range(2 * column, min(2 * column + 2, columns)):
            height, width = cell(shape, step, y, x).shape
            part = halve(read(y, x)[..., :height, :width], how)
            if tile is None:
                tile = np.zeros((*part.shape[:-2], side, side), part.dtype)
            top, left = y % 2 * side // 2, x % 2 * side // 2
            tile[..., top : top + part.shape[-2], left : left + part.shape[-1]] = part
    assert tile is not None  # a tile of the level has at least one of the level before
    return tile


def _half(shape: tuple[int, int]) -> tuple[int, int]:
    return -(-shape[0] // 2), -(-shape[1] // 2)
