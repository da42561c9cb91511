"""Boxes of any shape in, whole tiles out.

        tile 0      tile 1
    +-----------+-----------+
    |     +-----|--+        |     A box fills a part of each tile that it meets. A tile whose last
    |     | box |  |        |     pixel has arrived is handed over and forgotten.
    |     +-----|--+        |
    +-----------+-----------+

Tiles at the right and lower edge keep their full size; beyond the image they are zero, so that the
bytes of a file depend on its pixels alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.geometry import Box
from exactile.images.grid import cell, cell_count, cells_over
from exactile.images.sink import CoverageError
from exactile.images.source import Plane


@dataclass(frozen=True, slots=True, order=True)
class TileKey:
    """One tile, with all channels, of one plane."""

    plane: Plane
    row: int
    """Counted in tiles from the top."""
    column: int
    """Counted in tiles from the left."""

    def __str__(self) -> str:
        return f"tile (row {self.row}, column {self.column}) of {self.plane}"


@dataclass(slots=True)
class _Partial:
    pixels: NDArray[Any]
    written: NDArray[np.bool_]
    missing: int


class TileAssembler:
    """Tiles of one image that are begun, and the record of those that are finished.

    Tiles that were finished by an earlier run may be kept; what is added to them is left out.
    """

    def __init__(
        self, shape: tuple[int, int], size_c: int, dtype: np.dtype[Any], side: int
    ) -> None:
        self.shape = shape
        self._step = (side, side)
        self._tile_shape = (size_c, side, side)
        self._dtype = dtype
        self._partial: dict[TileKey, _Partial] = {}
        self._finished: set[TileKey] = set()
        self._kept: set[TileKey] = set()

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles down and across a plane."""
        return cell_count(self.shape, self._step)

    def add(
        self, plane: Plane, box: Box, pixels: NDArray[Any]
    ) -> Iterator[tuple[TileKey, NDArray[Any]]]:
        """Take `pixels` (C, Y, X) of `box` and yield each tile that it completes, (C, side, side).

        The tiles belong to the caller. Raises CoverageError at a pixel that was written before.
        """
        for key in self.keys_over(plane, box):
            if key in self._kept:
                continue
            tile = cell(self.shape, self._step, key.row, key.column)
            common = tile & box
            part = pixels[common.relative_to(box).slices]
            finished = self._fill(key, tile, common.relative_to(tile), part)
            if finished is not None:
                yield key, finished

    def _fill(self, key: TileKey, tile: Box, place: Box, part: NDArray[Any]) -> NDArray[Any] | None:
        if key in self._finished:
            raise CoverageError(f"{place} in {key} is written twice")
        partial = self._partial.get(key)
        if partial is None:
            pixels = np.zeros(self._tile_shape, self._dtype)
            if place.size == tile.size:
                pixels[place.slices] = part
                self._finished.add(key)
                return pixels
            partial = _Partial(pixels, np.zeros(tile.shape, np.bool_), tile.size)
            self._partial[key] = partial
        if partial.written[place.slices].any():
            raise CoverageError(f"{place} in {key} is written twice")
        partial.written[place.slices] = True
        partial.pixels[place.slices] = part
        partial.missing -= place.size
        if partial.missing:
            return None
        del self._partial[key]
        self._finished.add(key)
        return partial.pixels

    def keep(self, keys: Iterable[TileKey]) -> None:
        """Count the tiles `keys` as finished, and leave out what will be added to them."""
        self._kept.update(keys)

    def keys(self, planes: tuple[Plane, ...]) -> Iterator[TileKey]:
        """Yield every tile of `planes`."""
        rows, columns = self.grid
        for plane in planes:
            for row in range(rows):
                for column in range(columns):
                    yield TileKey(plane, row, column)

    def keys_over(self, plane: Plane, box: Box) -> Iterator[TileKey]:
        """Yield every tile of `plane` that shares a pixel with `box` (Y, X)."""
        for row, column in cells_over(box, self._step):
            yield TileKey(plane, row, column)

    def check_complete(self, planes: tuple[Plane, ...]) -> None:
        """Raise CoverageError unless every pixel of `planes` has been written."""
        done = self._finished | self._kept
        missing = [key for key in self.keys(planes) if key not in done]
        if missing:
            total = len(missing) + len(done)
            raise CoverageError(
                f"{len(missing)} of {total} tiles are not filled; the first is {missing[0]}"
            )
