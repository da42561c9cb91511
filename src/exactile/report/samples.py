"""Single pixels on a lattice, picked while an image goes by: what a small picture needs of it.

    image    . . . . . . . . .      a pixel of each cell of `step` x `step` is kept, at most
             . x . . x . . x .      MOST along the longer side
             . . . . . . . . .
             . . . . . . . . .      the lattice lies in the image's pixels; of an output that is
             . x . . x . . x .      cropped or scaled, the positions at the same places are kept
             . . . . . . . . .

A pixel is itself, whatever piece of the image it came in: pieces may be of any size, may come in
any order, by several threads, twice or never, and the samples are the same. What never came is
known, and can be read later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.geometry import Box, Locality
from exactile.images import Plane, Source
from exactile.images.grid import cells_over

MOST = 1024
"""Samples along the longer side of an image, at most."""

Positions = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows and columns, not falling; those outside the image at hand have no sample."""


@dataclass(frozen=True)
class Lattice:
    """Where samples are taken in an image."""

    positions: Positions
    shape: tuple[int, int]
    """Height and width (Y, X) of the image, in its own pixels."""

    @classmethod
    def over(cls, shape: tuple[int, int], most: int = MOST) -> Lattice:
        """Return the lattice of an image of `shape`: the centres of square cells."""
        step = -(-max(shape) // most)
        rows, columns = (np.arange(min(step // 2, side - 1), side, step) for side in shape)
        return cls((rows, columns), shape)

    def of_output(self, locality: Locality, shape: tuple[int, int]) -> Lattice:
        """Return the same places in an output of `shape`, in its positions."""
        rows, columns = (
            (pixels - axis.crop.low) * axis.scale.numerator // axis.scale.denominator
            for pixels, axis in zip(self.positions, locality.axes[-2:], strict=True)
        )
        return Lattice((rows, columns), shape)

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which samples are inside the image: (rows, columns)."""
        rows, columns = (
            (places >= 0) & (places < side)
            for places, side in zip(self.positions, self.shape, strict=True)
        )
        result: NDArray[np.bool_] = rows[:, None] & columns[None, :]
        return result

    def within(self, box: Box) -> tuple[slice, slice]:
        """Return which rows and columns of the lattice lie in `box` (Y, X)."""
        rows, columns = (
            slice(*np.searchsorted(places, (axis.start, axis.stop)).tolist())
            for places, axis in zip(self.positions, box.axes, strict=True)
        )
        return rows, columns


class Samples:
    """The samples of one plane, as far as they came."""

    def __init__(
        self,
        lattice: Lattice,
        dtype: np.dtype[Any],
        reduce: Callable[[NDArray[Any]], NDArray[Any]],
    ) -> None:
        """Begin with none; `reduce` makes values (Y, X) of `dtype` from samples (C, Y, X)."""
        self.lattice = lattice
        self.missing = lattice.inside
        self.values: NDArray[Any] = np.zeros(self.missing.shape, dtype)
        self._reduce = reduce

    def add(self, box: Box, pixels: NDArray[Any]) -> None:
        """Take the samples that lie in `box` (Y, X), whose pixels are (C, Y, X)."""
        places = self.lattice.within(box)
        rows, columns = (
            positions[part] - start
            for positions, part, start in zip(
                self.lattice.positions, places, box.start, strict=True
            )
        )
        if rows.size and columns.size:
            self.values[places] = self._reduce(pixels[:, rows[:, None], columns])
            self.missing[places] = False

    def complete(self, source: Source, plane: Plane, channels: tuple[int, ...]) -> None:
        """Read what is missing from `source`, whose chunks are decoded where it lies.

        Raises:
            ImageError: if a chunk cannot be decoded.
        """
        if not self.missing.any():
            return
        for row, column in cells_over(Box.of_shape(source.shape), source.chunk):
            box = source.chunk_box(row, column)
            if self.missing[self.lattice.within(box)].any():
                self.add(box, source.read(plane, channels, box))
