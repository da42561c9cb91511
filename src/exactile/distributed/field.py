"""What goes through the network at once: one plane, or all planes of a time point as a volume.

Boxes are (Y, X) for planes and (Z, Y, X) for volumes; a plane is read as a volume of one plane.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.geometry import Box, Interval
from exactile.images import Plane, Source
from exactile.images.grid import cell_count
from exactile.normalization import normalize
from exactile.normalization.blocks import Pixels, pixels_of
from exactile.padding import reflect
from exactile.processing import Pointwise


@dataclass(frozen=True)
class Field:
    """The pixels of some channels that are normalised and run as one."""

    source: Source
    channels: tuple[int, ...]
    planes: tuple[Plane, ...]
    """One for a plane; all of a time point, in their order, for a volume."""
    dimensions: int
    """2 for a plane, 3 for a volume."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes in array order."""
        return (len(self.planes), *self.source.shape)[-self.dimensions :]

    def __str__(self) -> str:
        first = self.planes[0]
        return str(first) if self.dimensions == 2 else f"volume T={first.t}"

    def read(self, window: Box, steps: tuple[Pointwise, ...]) -> NDArray[np.float32]:
        """Return `window`, normalised by `steps`, as (C, [Z,] Y, X): a fresh array.

        It may reach beyond the end of the field, which is reflected there. Besides the array, one
        plane of it is in memory at a time.

        Raises:
            ImageError: if pixels cannot be read.
        """
        made = np.empty((len(self.channels), *window.shape), np.float32)
        if not made.size:
            return made
        *depth, y, x = self._places(window)
        z = depth[0] if depth else np.zeros(1, np.int64)
        needed = Box(tuple(Interval(int(min(i)), int(max(i)) + 1) for i in (y, x)))
        rows, columns = (i - start for i, start in zip((y, x), needed.start, strict=True))
        volume = made.reshape(len(self.channels), len(z), *made.shape[-2:])
        for place, index in enumerate(z):
            pixels = self.source.read(self.planes[index], self.channels, needed)
            pixels = pixels[:, rows[:, None], columns[None, :]]
            volume[:, place] = normalize(pixels, steps)
        return made

    def _places(self, window: Box) -> list[NDArray[np.int64]]:
        return [reflect(a, n) for a, n in zip(window.axes, self.shape, strict=True)]

    @property
    def rows_of_blocks(self) -> int:
        """How many rows of blocks all planes have together."""
        return len(self.planes) * self._rows

    @property
    def _rows(self) -> int:
        return cell_count(self.source.shape, self.source.chunk)[0]

    def pixels(self, rows: range) -> Pixels:
        """Return the pixels of some `rows` of blocks, counted plane after plane, for statistics.

        The count is that of the whole field.
        """

        def blocks() -> Iterator[NDArray[Any]]:
            for plane, group in groupby(rows, key=lambda row: row // self._rows):
                own = [row % self._rows for row in group]
                some = pixels_of(
                    self.source, self.planes[plane], self.channels, range(own[0], own[-1] + 1)
                )
                yield from some.blocks()

        source = self.source
        return Pixels(str(source.path), source.dtype, len(self.channels), prod(self.shape), blocks)


def fields_of(source: Source, channels: tuple[int, ...], dimensions: int) -> tuple[Field, ...]:
    """Return what goes through a network of so many axes, one after the other."""
    planes = source.planes
    if dimensions == 2:
        return tuple(Field(source, channels, (plane,), 2) for plane in planes)
    times = groupby(planes, key=lambda plane: plane.t)
    return tuple(Field(source, channels, tuple(group), 3) for _, group in times)
