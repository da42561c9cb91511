"""What the sources that read TIFF bytes themselves have in common: the file, and samples.

Channels of an image with interleaved samples are decoded together. The block decoded last is kept,
so that reading its channels one after the other decodes it once.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from tifffile import TiffFile

from exactile.errors import ImageError
from exactile.geometry import Box
from exactile.images.metadata import ImageMetadata
from exactile.images.source import DEFAULT_CACHE_BYTES, Plane, Source
from exactile.images.tiff_layout import DAMAGE, TiffLayout


class TiffSource(Source):
    """A TIFF file read through a layout; it owns the open `tiff`."""

    def __init__(
        self,
        path: Path,
        tiff: TiffFile,
        layout: TiffLayout,
        metadata: ImageMetadata,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        threads: int = 1,
    ) -> None:
        super().__init__(cache_bytes, threads)
        self.path = path
        self.layout = layout
        self.metadata = metadata
        self.shape = layout.shape
        self.size_t, self.size_z, self.size_c = layout.sizes
        self.dtype = layout.dtype
        self._last: tuple[tuple[int, ...], NDArray[Any]] | None = None
        self._open = ExitStack()
        self._open.callback(tiff.close)
        self._file = self._open.enter_context(path.open("rb", buffering=0))

    def read_chunk(self, plane: Plane, channel: int, row: int, column: int) -> NDArray[Any]:
        """Return one channel of a block; see Source."""
        page, group, position = self.layout.locate(plane, channel)
        key = (page, group, row, column)
        last = self._last  # another thread may put its own there
        if last is not None and last[0] == key:
            block = last[1]
        else:
            block = self._decode_block(plane, channel, page, group, self.chunk_box(row, column))
        if self.layout.contiguous_samples > 1:
            self._last = (key, block)
        pixels: NDArray[Any] = block[position]
        return pixels

    def _decode_block(
        self, plane: Plane, channel: int, page: int, group: int, box: Box
    ) -> NDArray[Any]:
        try:
            return self._read_block(page, group, box)
        except DAMAGE as error:
            top, left = box.start
            raise ImageError(
                f"{self.path} cannot be read from row {top} and column {left} of {plane}, channel "
                f"{channel}: {error}; the file is damaged there: copy or write it again"
            ) from error

    @abstractmethod
    def _read_block(self, page: int, group: int, box: Box) -> NDArray[Any]:
        """Return the pixels of `box` from one page: (interleaved samples, Y, X).

        `group` is the plane of samples where each has segments of its own. What goes wrong may
        be raised as any of DAMAGE.
        """

    def _pread(self, offset: int, length: int) -> bytes:
        """Return `length` bytes of the file from `offset`; all, or OSError."""
        data = os.pread(self._file.fileno(), length, offset)
        if len(data) == length:
            return data
        # One call returns at most 2 GiB, and less where a signal or a network file system says so.
        parts = [data]
        while data and (missing := length - sum(map(len, parts))):
            data = os.pread(self._file.fileno(), missing, offset + length - missing)
            parts.append(data)
        if sum(map(len, parts)) < length:
            raise OSError(f"the file ends within the {length} bytes from byte {offset}")
        return b"".join(parts)

    def _close(self) -> None:
        self._last = None
        self._open.close()
