"""OME-Zarr 0.4 and 0.5: the array of full resolution, read through zarr.

What is decided here:

- A chunk whose file is not there is the fill value, as the format has it: writers leave out chunks
  that are all background, so that a missing file alone is no damage. It may be one that was lost in
  copying, though, which nothing in the format tells apart: how many there are is logged. An array
  that has not a single chunk, or no fill value, was never written, or not copied: it is refused.
- Files that are named in another way than the metadata say, or that lie outside the array, show
  that the metadata are not those of the pixels: they are refused (`zarr_keys`). Only of Zarr 2 that
  says nothing of the separator, as it was before it could, chunks are read where they lie.
- A chunk that is there and is empty, shorter or longer than it can be, or no file, is damage.
- Plates and wells hold many images, and groups of labels may; they are refused by name. A label
  image is an image.
- Chunks may span planes and channels. The blocks decoded last are kept, one for each thread, so
  that reading their channels and planes one after the other decodes each once; a thread that wants
  one which another thread is decoding waits for it.
"""

from __future__ import annotations

import logging
import stat
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from exactile.errors import ImageError
from exactile.geometry import Interval, floor_to
from exactile.images.metadata import PIXEL_TYPES, ImageMetadata
from exactile.images.source import DEFAULT_CACHE_BYTES, Plane, Source
from exactile.images.tiff_layout import blocks_of
from exactile.images.zarr_array import StoredArray
from exactile.images.zarr_axes import AxisOrder

logger = logging.getLogger(__name__)

Block = tuple[Interval, ...]
"""What is decoded at once: positions along each axis of the array."""

_CHUNK_SIDE = 512
_BLOSC_HEADER = 16


class ZarrSource(Source):
    """An array of an OME-Zarr folder, read a chunk at a time."""

    metadata = ImageMetadata()

    def __init__(
        self,
        path: Path,
        stored: StoredArray,
        axes: AxisOrder,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        threads: int = 1,
    ) -> None:
        """Read the array `stored`, in the folder `path`.

        Raises ImageError where its shape or type are not those of an image.
        """
        super().__init__(cache_bytes, threads)
        array = stored.array
        self.path = path
        self._stored = stored
        self._array = array
        self._axes = axes
        _check_array(path, array, axes)
        sides = array.shape
        self.shape = (sides[axes.y], sides[axes.x])
        self.size_t, self.size_c, self.size_z = (
            1 if axis is None else sides[axis] for axis in (axes.t, axes.c, axes.z)
        )
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        self._step = array.chunks
        stack = np.prod([s for i, s in enumerate(self._step) if i not in (axes.y, axes.x)])
        # Several small chunks are read as one, not to drown in calls.
        wanted = _CHUNK_SIDE if stack == 1 else 1
        self.chunk = (
            blocks_of(self._step[axes.y], self.shape[0], wanted),
            blocks_of(self._step[axes.x], self.shape[1], wanted),
        )
        self._spans = bool(stack > 1)
        self._blosc = array.shards is None and _ends_in_blosc(array)
        self._recent: OrderedDict[Block, Future[NDArray[Any]]] = OrderedDict()
        self._keeping = Lock()
        if axes.z is not None:
            self.depth = min(self._step[axes.z], self.size_z)
        self._absent_logged = False
        absent = stored.total - stored.count
        if absent:
            self.filled = (
                f"{absent} of {stored.total} chunks are not there, and count as "
                f"{array.fill_value}, the fill value"
            )

    def describe(self, *metadata: ImageMetadata) -> None:
        """Take over what is said of the image, of each fact the first that is."""
        said = [m if len(m.channels) == self.size_c else replace(m, channels=()) for m in metadata]
        names = [field.name for field in fields(ImageMetadata)]
        found = {name: [getattr(each, name) for each in said] for name in names}
        self.metadata = ImageMetadata(**{n: next(filter(None, f), f[0]) for n, f in found.items()})

    def read_chunk(self, plane: Plane, channel: int, row: int, column: int) -> NDArray[Any]:
        """Return one chunk; see Source."""
        axes = self._axes
        rows, columns = self.chunk_box(row, column).axes
        wanted = {axes.t: plane.t, axes.c: channel, axes.z: plane.z, axes.other: 0}
        block = tuple(
            rows if axis == axes.y else columns if axis == axes.x else self._cell(axis, position)
            for axis, position in ((axis, wanted.get(axis, 0)) for axis in range(self._array.ndim))
        )
        pixels = self._decoded(block, plane, channel)
        inside = tuple(
            slice(None) if axis in (axes.y, axes.x) else wanted[axis] - interval.start
            for axis, interval in enumerate(block)
        )
        chunk = pixels[inside]
        return chunk if axes.y < axes.x else chunk.T

    def _decoded(self, block: Block, plane: Plane, channel: int) -> NDArray[Any]:
        if not self._spans:
            return self._decode(block, plane, channel)
        with self._keeping:
            found = self._recent.get(block)
            mine = Future[NDArray[Any]]() if found is None else None
            if mine is not None:
                self._recent[block] = mine
                if len(self._recent) > self._pool.threads:
                    self._recent.popitem(last=False)
        if found is not None:
            return found.result()
        assert mine is not None
        try:
            mine.set_result(self._decode(block, plane, channel))
        except BaseException as error:  # noqa: BLE001 - handed to those who wait, raised by `result`
            with self._keeping:
                self._recent.pop(block, None)
            mine.set_exception(error)
        return mine.result()

    def _cell(self, axis: int, position: int) -> Interval:
        """Return the positions of an axis that are decoded together with `position`."""
        start = floor_to(position, self._step[axis])
        return Interval(start, min(start + self._step[axis], self._array.shape[axis]))

    def _decode(self, block: tuple[Interval, ...], plane: Plane, channel: int) -> NDArray[Any]:
        try:
            for place in self._files_over(block):
                self._check_file(place)
            pixels = self._array[tuple(slice(axis.start, axis.stop) for axis in block)]
        except Exception as error:  # what codecs raise for damaged chunks is no list
            top, left = block[self._axes.y].start, block[self._axes.x].start
            raise ImageError(
                f"{self.path} cannot be read from row {top} and column {left} of {plane}, channel "
                f"{channel}: {error}; the folder is damaged there: copy or write it again"
            ) from error
        return np.asarray(pixels, self.dtype)

    def _files_over(self, block: tuple[Interval, ...]) -> Iterator[str]:
        """Yield the key of each file, a chunk or a shard of them, that a block lies in."""
        steps = zip(block, self._stored.step, strict=True)
        grid = (range(axis.start // step, (axis.stop - 1) // step + 1) for axis, step in steps)
        for place in product(*grid):
            yield self._array.metadata.encode_chunk_key(place)

    def _check_file(self, key: str) -> None:
        """See what the codecs do not: that a file is there, and holds what its header says."""
        file = self._stored.folder / key
        try:
            found = file.stat()
        except FileNotFoundError:
            self._check_absent(key, file)
            return
        size = found.st_size
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"chunk {key} is no file")
        if size == 0:
            raise ValueError(f"chunk {key} is empty")
        if size > self._stored.most_file_bytes:
            raise ValueError(f"chunk {key} has {size} bytes, more than its pixels")
        if self._blosc:
            with file.open("rb") as opened:
                header = opened.read(_BLOSC_HEADER)
            # The decoder trusts this number, and reads memory beyond a chunk that was cut.
            if int.from_bytes(header[12:16], "little") != size:
                raise ValueError(f"chunk {key} has not the {size} bytes that its header speaks of")

    def _check_absent(self, key: str, file: Path) -> None:
        """Say once that files are not there; raise ValueError where that cannot be."""
        if self._array.fill_value is None:
            raise ValueError(f"chunk {key} is not there, and there is no fill value")
        if file.is_symlink() or self._stored.count == self._stored.total:
            raise ValueError(f"chunk {key} is not there any more")
        if not self._absent_logged:
            self._absent_logged = True
            logger.warning(
                "%s: %s, such as %s; copy the folder again if its writer does not leave out empty "
                "chunks",
                self.path,
                self.filled,
                key,
            )

    def _close(self) -> None:
        self._recent.clear()


def _check_array(path: Path, array: zarr.Array[Any], axes: AxisOrder) -> None:
    if np.dtype(array.dtype).name not in PIXEL_TYPES:
        raise ImageError(
            f"{path}: pixels of {array.dtype} are not supported; convert them to one of "
            f"{', '.join(PIXEL_TYPES)}"
        )
    if min(array.shape) < 1:
        raise ImageError(f"{path} has no pixels: its array is of shape {array.shape}")
    if axes.other is not None and array.shape[axes.other] > 1:
        raise ImageError(
            f"{path} has an axis of {array.shape[axes.other]} positions that is neither time, "
            "channel nor space: write an image for each of them"
        )


def _ends_in_blosc(array: zarr.Array[Any]) -> bool:
    """Return whether the bytes of a chunk's file are those of Blosc."""
    document: Mapping[str, Any] = array.metadata.to_dict()
    if array.metadata.zarr_format == 2:
        codec = document["compressor"] or {}
        return bool(codec.get("id") == "blosc")
    return bool(document["codecs"][-1]["name"] == "blosc")
