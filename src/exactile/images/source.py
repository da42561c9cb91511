"""A source: the pixels of one image, read a box at a time, of a plane or of a volume.

What an implementer promises:

- The attributes are set when the constructor returns, and do not change. `planes` is every
  (t, z) pair, T-major; `volumes` is every t, with all planes of its stack.
- `read_chunk` decodes one chunk of one channel of one plane: row `i` and column `j` of the grid
  that `chunk` spans from the image's origin. The array is (Y, X), clipped to the image, of exactly
  `dtype` (in the machine's byte order). It may be a view; the caller copies what it keeps.
- Reading the same chunk twice gives the same pixels, whatever was read in between.
- Memory is bounded by the chunk (for interleaved samples, by the chunk of all samples; where
  `depth` planes are decoded together, by those of all), never by the image.
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
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from exactile.geometry import PLANES, VOLUMES, Box, Interval, ceil_to, floor_to
from exactile.images.cache import ChunkCache
from exactile.images.decoding import DecodingPool
from exactile.images.grid import cell, cell_count, cells_over
from exactile.images.metadata import ImageMetadata

DEFAULT_CACHE_BYTES = 128 * 2**20


@dataclass(frozen=True, slots=True, order=True)
class Plane:
    """One (Y, X) plane of an image, with all of its channels."""

    dimensions: ClassVar[int] = PLANES

    t: int = 0
    """Time point, from 0."""
    z: int = 0
    """Position in the stack, from 0."""

    def __str__(self) -> str:
        return f"plane T={self.t} Z={self.z}"


@dataclass(frozen=True, slots=True, order=True)
class Volume:
    """All planes of one time point as one array (Z, Y, X), with all of its channels."""

    dimensions: ClassVar[int] = VOLUMES

    t: int = 0
    """Time point, from 0."""

    def __str__(self) -> str:
        return f"volume T={self.t}"


Whole = Plane | Volume
"""What is normalised as a whole and goes through a network at once."""


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
    series: str = ""
    """Which of the file's images is read, and which are not; empty where a format has but one."""
    filled: str = ""
    """What of the pixels is not stored and counts as background, in words; empty where all is."""
    depth: int = 1
    """How many planes of the stack are decoded together, counted from its first."""

    def __init__(self, cache_bytes: int = DEFAULT_CACHE_BYTES, threads: int = 1) -> None:
        self.cache_bytes = cache_bytes
        self._cache = ChunkCache(cache_bytes)
        self._pool = DecodingPool(threads)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Every plane, T-major and then Z."""
        return planes_of(self.size_t, self.size_z)

    @property
    def volumes(self) -> tuple[Volume, ...]:
        """Every volume, one for each time point."""
        return tuple(Volume(t) for t in range(self.size_t))

    def wholes(self, dimensions: int) -> tuple[Whole, ...]:
        """Return all that a network of so many spatial axes takes: every plane, or every volume."""
        return self.planes if dimensions == PLANES else self.volumes

    def shape_of(self, dimensions: int) -> tuple[int, ...]:
        """Return the sides of one of those: (Y, X), or (Z, Y, X)."""
        return self.shape if dimensions == PLANES else (self.size_z, *self.shape)

    def block_of(self, dimensions: int) -> tuple[int, ...]:
        """Return the sides of what is decoded at once of one of those."""
        return self.chunk if dimensions == PLANES else (self.depth, *self.chunk)

    def rows_of(self, dimensions: int) -> int:
        """Return how many rows of blocks one of those has, as `read_all` counts them."""
        slabs = 1 if dimensions == PLANES else -(-self.size_z // self.depth)
        return slabs * cell_count(self.shape, self.chunk)[0]

    @property
    def decoded_bytes(self) -> int:
        """Most bytes of decoded chunks at a time: the cache, and what is on its way to it."""
        chunk = prod(self.chunk) * self.dtype.itemsize
        together = chunk * self.depth * self._pool.threads if self.depth > 1 else 0
        return max(self.cache_bytes, chunk) + self._pool.most_held * chunk + together

    def holds_all(self, dimensions: int, channels: int) -> bool:
        """Return whether the cache has room for so many channels of a plane, or of a volume."""
        pixels = channels * prod(self.shape_of(dimensions))
        return pixels * self.dtype.itemsize <= self.cache_bytes

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

    def read(self, whole: Whole, channels: tuple[int, ...], box: Box) -> NDArray[Any]:
        """Return the pixels of `box`: fresh, in the file's dtype, (C, Y, X) or (C, Z, Y, X).

        Raises what `read_into` raises.
        """
        pixels = np.empty((len(channels), *box.shape), self.dtype)
        self.read_into(pixels, whole, channels, box)
        return pixels

    def read_into(
        self, pixels: NDArray[Any], whole: Whole, channels: tuple[int, ...], box: Box
    ) -> None:
        """Copy the pixels of `box` into `pixels`, as numbers of its type: (C, Y, X), (C, Z, Y, X).

        Raises ImageError where a chunk cannot be decoded, and ValueError for a plane, a volume, a
        channel or a box that is not in the image, which the caller should have known.
        """
        if not 0 <= whole.t < self.size_t or (
            isinstance(whole, Plane) and not 0 <= whole.z < self.size_z
        ):
            raise ValueError(f"{self.path} has no {whole}")
        if any(not 0 <= channel < self.size_c for channel in channels):
            raise ValueError(f"{self.path} has {self.size_c} channels, not all of {channels}")
        shape = self.shape_of(len(box.axes))
        if box not in Box.of_shape(shape):
            raise ValueError(f"{box} reaches outside {self.path} of shape {shape}")
        if isinstance(whole, Plane):
            wanted = Interval(whole.z, whole.z + 1)
            self._fill(pixels[:, None], whole.t, wanted, 1, channels, box)
        else:
            self._fill(pixels, whole.t, box.axes[0], self.depth, channels, Box(box.axes[1:]))

    def _fill(
        self,
        pixels: NDArray[Any],
        t: int,
        wanted: Interval,
        depth: int,
        channels: tuple[int, ...],
        box: Box,
    ) -> None:
        """Read `box` (Y, X) of the planes `wanted` into `pixels` (C, Z, Y, X).

        Of planes that are decoded together, `depth` at a time, all are kept for the next box.
        """
        first = floor_to(wanted.start, depth)
        last = min(ceil_to(wanted.stop, depth), self.size_z)
        # Channels innermost, but for what is decoded together: a source of interleaved samples
        # decodes them at once.
        places = [
            (position, (Plane(t, z), channel, row, column))
            for row, column in cells_over(box, self.chunk)
            for slab in Interval(first, last).split(depth)
            for position, channel in enumerate(channels)
            for z in range(slab.start, slab.stop)
        ]
        decoded = self._pool.loads([k for _, k in places], self._load, self._cache.__contains__)
        for (position, key), (_, load) in zip(places, decoded, strict=True):
            chunk, z = self._cache.get(key, load), key[0].z
            if wanted.start <= z < wanted.stop:
                chunk_box = self.chunk_box(*key[2:])
                common = chunk_box & box
                part = chunk[common.relative_to(chunk_box).slices]
                pixels[position, z - wanted.start][common.relative_to(box).slices] = part

    def read_all(
        self, whole: Whole, channels: tuple[int, ...], rows: range | None = None
    ) -> Iterator[tuple[Box, NDArray[Any]]]:
        """Yield the blocks of a plane row by row: the place (Y, X), and fresh pixels (C, Y, X).

        Those of a volume, (Z, Y, X) and (C, Z, Y, X), come in rows too, from the first planes that
        are decoded together to the last. `rows` are the rows that are wanted, counted so; by
        default all. Each chunk is decoded once. The cache keeps them for later reads where it has
        room for all of the plane or volume, else it is passed by. Raises ImageError where one
        cannot be decoded.
        """
        slabs = (
            [Interval(whole.z, whole.z + 1)]
            if isinstance(whole, Plane)
            else list(Interval(0, self.size_z).split(self.depth))
        )
        down = cell_count(self.shape, self.chunk)[0]
        places = [
            (slab, row, column)
            for number, slab in enumerate(slabs)
            for row, column in cells_over(Box.of_shape(self.shape), self.chunk)
            if rows is None or number * down + row in rows
        ]
        keys = (
            (Plane(whole.t, z), channel, row, column)
            for slab, row, column in places
            for channel in channels
            for z in range(slab.start, slab.stop)
        )
        keep = self.holds_all(whole.dimensions, len(channels))
        held = self._cache.__contains__ if keep else lambda _: False
        decoded = self._pool.loads(keys, self._load, held)
        for slab, row, column in places:
            box = self.chunk_box(row, column)
            if isinstance(whole, Volume):
                box = Box((slab, *box.axes))
            taken = islice(decoded, len(channels) * slab.length)
            chunks = [self._cache.get(key, load) if keep else load() for key, load in taken]
            yield box, np.stack(chunks).reshape(len(channels), *box.shape)

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
