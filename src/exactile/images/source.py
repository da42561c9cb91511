"""A source: the pixels of one image, read a box at a time.

What an implementer promises:

- The attributes are set when the constructor returns, and do not change. `planes` is every
  (t, z) pair, T-major.
- `read_chunk` decodes one chunk of one channel of one plane: row `i` and column `j` of the grid
  that `chunk` spans from the image's origin. The array is (Y, X), clipped to the image, of exactly
  `dtype` (in the machine's byte order). It may be a view; the caller copies what it keeps.
- Reading the same chunk twice gives the same pixels, whatever was read in between.
- Memory is bounded by the chunk (for interleaved samples, by the chunk of all samples), never by
  the image.
- What cannot be decoded raises `ImageError` naming the file, the plane, and the place; pixels are
  never made up. Data that a file leaves out (TIFF tiles of no bytes) counts as not decodable.
- A source holds no file open after `close`, which may be called twice.

- Made with several threads, it lets them all call `read_chunk` at once.

What a caller promises: a source belongs to one thread at a time. Two threads need two sources. The
threads that decode are the source's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from exactile.geometry import Box
from exactile.images.cache import ChunkCache
from exactile.images.decoding import DecodingPool
from exactile.images.grid import cell, cells_over
from exactile.images.metadata import ImageMetadata

DEFAULT_CACHE_BYTES = 128 * 2**20


@dataclass(frozen=True, slots=True, order=True)
class Plane:
    """One (Y, X) plane of an image, with all of its channels."""

    t: int = 0
    """Time point, from 0."""
    z: int = 0
    """Position in the stack, from 0."""

    def __str__(self) -> str:
        return f"plane T={self.t} Z={self.z}"


def planes_of(size_t: int, size_z: int) -> tuple[Plane, ...]:
    """Return every plane, T-major and then Z."""
    return tuple(Plane(t, z) for t in range(size_t) for z in range(size_z))


Watch = Callable[[Plane, int, Box, NDArray[Any]], None]
"""Is shown a chunk as it is decoded: plane, channel, place (Y, X) and pixels (Y, X), not to be kept
or written into. It is called by any of the threads that decode, by several at once."""


class Source(ABC):
    """The pixels of one image; see the module for what it promises. A context manager."""

    watch: Watch | None = None
    """Who is shown every chunk that is decoded, if anybody."""

    path: Path
    """The file, or what says which files make the image."""
    shape: tuple[int, int]
    """Height and width (Y, X) in pixels."""
    size_t: int
    """Number of time points."""
    size_z: int
    """Number of planes in the stack."""
    size_c: int
    """Number of channels; the samples of an RGB image are three."""
    dtype: np.dtype[Any]
    """Type of a pixel, in the machine's byte order."""
    metadata: ImageMetadata
    """Physical size, channel names, name."""
    chunk: tuple[int, int]
    """The unit of decoding (rows, columns): reading along this grid decodes nothing twice."""

    def __init__(self, cache_bytes: int = DEFAULT_CACHE_BYTES, threads: int = 1) -> None:
        self.cache_bytes = cache_bytes
        self._cache = ChunkCache(cache_bytes)
        self._pool = DecodingPool(threads)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Every plane, T-major and then Z."""
        return planes_of(self.size_t, self.size_z)

    @property
    def decoded_bytes(self) -> int:
        """Most bytes of decoded chunks at a time: the cache, and what is on its way to it."""
        chunk = prod(self.chunk) * self.dtype.itemsize
        return max(self.cache_bytes, chunk) + self._pool.most_held * chunk

    def limit_cache(self, most: int) -> None:
        """Keep at most `most` bytes of decoded chunks from now on, where that is less."""
        self.cache_bytes = self._cache.capacity = min(self.cache_bytes, most)

    @abstractmethod
    def read_chunk(self, plane: Plane, channel: int, row: int, column: int) -> NDArray[Any]:
        """Return the chunk at (`row`, `column`) of the grid: (Y, X), clipped to the image.

        Raises ImageError where it cannot be decoded.
        """

    @abstractmethod
    def _close(self) -> None:
        """Give back what the source holds; may be called twice."""

    def read(self, plane: Plane, channels: tuple[int, ...], box: Box) -> NDArray[Any]:
        """Return the pixels of `box` (Y, X): a fresh array (C, Y, X) in the file's dtype.

        Raises ImageError where a chunk cannot be decoded, and ValueError for a plane, a channel
        or a box that is not in the image, which the caller should have known.
        """
        if not (0 <= plane.t < self.size_t and 0 <= plane.z < self.size_z):
            raise ValueError(f"{self.path} has no {plane}")
        if any(not 0 <= channel < self.size_c for channel in channels):
            raise ValueError(f"{self.path} has {self.size_c} channels, not all of {channels}")
        if box not in Box.of_shape(self.shape):
            raise ValueError(f"{box} reaches outside {self.path} of shape {self.shape}")
        pixels = np.empty((len(channels), *box.shape), self.dtype)
        # Channels innermost: a source of interleaved samples decodes them together.
        places = [
            (position, (plane, channel, row, column))
            for row, column in cells_over(box, self.chunk)
            for position, channel in enumerate(channels)
        ]
        decoded = self._pool.loads([k for _, k in places], self._load, self._cache.__contains__)
        for (position, key), (_, load) in zip(places, decoded, strict=True):
            chunk_box = self.chunk_box(*key[2:])
            common = chunk_box & box
            part = self._cache.get(key, load)[common.relative_to(chunk_box).slices]
            pixels[position][common.relative_to(box).slices] = part
        return pixels

    def read_all(
        self, plane: Plane, channels: tuple[int, ...], rows: range | None = None
    ) -> Iterator[tuple[Box, NDArray[Any]]]:
        """Yield the chunks of a plane row by row: the place (Y, X), and fresh pixels (C, Y, X).

        `rows` are the rows of chunks that are wanted; by default all. Each chunk is decoded once,
        and the cache is passed by. Raises ImageError where one cannot be.
        """
        every = cells_over(Box.of_shape(self.shape), self.chunk)
        places = [place for place in every if rows is None or place[0] in rows]
        keys = ((plane, channel, *place) for place in places for channel in channels)
        decoded = self._pool.loads(keys, self._load, lambda _: False)
        for row, column in places:
            yield (
                self.chunk_box(row, column),
                np.stack([load() for _, load in islice(decoded, len(channels))]),
            )

    def _load(self, plane: Plane, channel: int, row: int, column: int) -> NDArray[Any]:
        pixels = self.read_chunk(plane, channel, row, column)
        if self.watch is not None:
            self.watch(plane, channel, self.chunk_box(row, column), pixels)
        return pixels

    def chunk_box(self, row: int, column: int) -> Box:
        """Return the pixels (Y, X) of the chunk at (`row`, `column`), clipped to the image."""
        return cell(self.shape, self.chunk, row, column)

    def close(self) -> None:
        """Close the file and forget what was read."""
        self._pool.close()
        self._cache.clear()
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
