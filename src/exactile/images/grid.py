"""The cells that a step cuts a plane into, counted from its origin: chunks, segments, tiles."""

from __future__ import annotations

from collections.abc import Iterator

from exactile.geometry import Box, Interval


def cell(shape: tuple[int, int], step: tuple[int, int], row: int, column: int) -> Box:
    """Return the pixels (Y, X) of a cell, clipped to a plane of `shape`."""
    return Box(
        tuple(
            Interval(index * length, min((index + 1) * length, side))
            for index, length, side in zip((row, column), step, shape, strict=True)
        )
    )


def cells_over(box: Box, step: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield row and column of every cell that shares a pixel with `box` (Y, X), row by row."""
    if not box.size:
        return
    rows, columns = (
        range(axis.start // length, (axis.stop - 1) // length + 1)
        for axis, length in zip(box.axes, step, strict=True)
    )
    for row in rows:
        for column in columns:
            yield row, column


def cell_count(shape: tuple[int, int], step: tuple[int, int]) -> tuple[int, int]:
    """Return how many cells there are down and across a plane of `shape`."""
    return -(-shape[0] // step[0]), -(-shape[1] // step[1])
