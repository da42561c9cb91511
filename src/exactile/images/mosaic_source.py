"""The pixels of a mosaic, composed of its files when they are wanted.

The mosaic has the chunks of the OME-TIFF that it would be assembled into: whatever goes through
them in their order, as statistics of floating images do, gives the same bits for both. A chunk is
painted with the files that reach into it, in the order of the vector's lines. Their own chunks are
kept in a memory of their own, since neighbours in the mosaic need them too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.errors import ImageError
from exactile.geometry import Box
from exactile.images.cache import ChunkCache
from exactile.images.grid import cell, cells_over
from exactile.images.mosaic import Mosaic
from exactile.images.open import open_source
from exactile.images.open_files import OpenFiles
from exactile.images.source import DEFAULT_CACHE_BYTES, Plane, Source

_CHUNK = (1024, 1024)

LONGEST_SIDE = 2**31 - 1
"""Of an image that OME-TIFF can describe, in pixels."""


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A file in its place."""

    path: Path
    box: Box
    """The rectangle (Y, X) of the mosaic that it fills."""
    chunk: tuple[int, int]
    """Its own unit of decoding (rows, columns)."""


class MosaicSource(Source):
    """The image that the files of a mosaic make together; see Source for what it promises."""

    chunk = _CHUNK

    def __init__(
        self, mosaic: Mosaic, cache_bytes: int = DEFAULT_CACHE_BYTES, threads: int = 1
    ) -> None:
        """Look at every file once; `cache_bytes` are for their chunks and the mosaic's together.

        Raises:
            ImageError: if a file cannot be opened, or is of another kind than the first one.
        """
        super().__init__(cache_bytes // 2, threads)
        self.path = mosaic.vector
        self._decoded = ChunkCache(cache_bytes - cache_bytes // 2)
        self._keeping = Lock()
        with open_source(mosaic.path(mosaic.placements[0])) as first:
            self._take_kind_of(first)
        self.files = tuple(
            self._look_at(mosaic.path(each), (each.y, each.x)) for each in mosaic.placements
        )
        """The files, in the order of the vector's lines."""
        self._starts = np.array([file.box.start for file in self.files])
        self._stops = self._starts + [file.box.shape for file in self.files]
        self.shape = (int(self._stops[:, 0].max()), int(self._stops[:, 1].max()))
        if max(self.shape) > LONGEST_SIDE:
            raise ImageError(
                f"{self.path} makes an image of {self.shape[0]} x {self.shape[1]} pixels, which no "
                f"OME-TIFF can hold: sides are at most {LONGEST_SIDE}; correct its positions"
            )
        self._files = OpenFiles(self._reopen)

    @property
    def decoded_bytes(self) -> int:
        """Most bytes of decoded chunks, the files' own included: one for each thread at least."""
        largest = max(prod(file.chunk) for file in self.files) * self.dtype.itemsize
        return super().decoded_bytes + self._decoded.capacity + self._pool.threads * largest

    def _take_kind_of(self, first: Source) -> None:
        self.size_t, self.size_z, self.size_c = first.size_t, first.size_z, first.size_c
        self.dtype = first.dtype
        self.metadata = replace(first.metadata, name=self.path.stem)
        self._first = first.path

    def _look_at(self, path: Path, start: tuple[int, int]) -> PlacedFile:
        with open_source(path, described=False) as source:
            for what, here, there in (
                ("pixels of type", source.dtype, self.dtype),
                ("channels:", source.size_c, self.size_c),
                ("time points:", source.size_t, self.size_t),
                ("planes in the stack:", source.size_z, self.size_z),
            ):
                if here != there:
                    raise ImageError(
                        f"{path} has {what} {here}, and {self._first} {there}: the files of a "
                        f"mosaic must be alike; convert it, or remove its line from {self.path}"
                    )
            return PlacedFile(path, Box.of_shape(source.shape).shift(start), source.chunk)

    def _reopen(self, number: int) -> Source:
        file = self.files[number]
        source = open_source(file.path, cache_bytes=0, described=False)
        if (source.shape, source.dtype) != (file.box.shape, self.dtype):
            source.close()
            raise ImageError(
                f"{file.path} was replaced by another image while it was read: start again"
            )
        return source

    def read_chunk(self, plane: Plane, channel: int, row: int, column: int) -> NDArray[Any]:
        """Return a chunk of the mosaic, zero where no file is; see Source."""
        box = self.chunk_box(row, column)
        pixels = np.zeros(box.shape, self.dtype)
        reaching = (self._starts < [a.stop for a in box.axes]) & (self._stops > box.start)
        for number in np.flatnonzero(reaching.all(axis=1)):
            self._paint(pixels, box, int(number), plane, channel)
        return pixels

    def _paint(
        self, pixels: NDArray[Any], box: Box, number: int, plane: Plane, channel: int
    ) -> None:
        """Write what file `number` has of `box` into `pixels` (Y, X) of that box."""
        file = self.files[number]
        # In pixels of the file from here on.
        inside = (file.box & box).relative_to(file.box)
        view = box.relative_to(file.box)
        for row, column in cells_over(inside, file.chunk):
            place = cell((file.box.shape[0], file.box.shape[1]), file.chunk, row, column)
            common = place & inside
            decoded = self._file_chunk((number, plane, channel, row, column))
            pixels[common.relative_to(view).slices] = decoded[common.relative_to(place).slices]

    def _file_chunk(self, key: tuple[int, Plane, int, int, int]) -> NDArray[Any]:
        kept = self._kept(key)
        if kept is not None:
            return kept
        with self._files.lend(key[0]) as source:
            # Another thread may have had the file, and this chunk, until now.
            kept = self._kept(key)
            if kept is not None:
                return kept
            decoded = source.read_chunk(*key[1:])
            with self._keeping:
                return self._decoded.get(key, lambda: decoded)

    def _kept(self, key: tuple[int, Plane, int, int, int]) -> NDArray[Any] | None:
        with self._keeping:
            return self._decoded.find(key)

    def _close(self) -> None:
        self._files.close()
        self._decoded.clear()
