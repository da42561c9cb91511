"""Strips without compression: any box is read by byte ranges.

A page that is one strip, as many programs write, is no larger to read than a tiled one. The file is
not mapped into memory: a mapped file that shrinks, or whose disk fails, kills the process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile

from exactile.geometry import Box
from exactile.images.metadata import ImageMetadata
from exactile.images.source import DEFAULT_CACHE_BYTES
from exactile.images.tiff_layout import TiffLayout, raw_row_bytes
from exactile.images.tiff_source import TiffSource

_CHUNK = (256, 2048)


class RawSource(TiffSource):
    """A TIFF of plain strips, in chunks of its own choice."""

    def __init__(
        self,
        path: Path,
        tiff: TiffFile,
        layout: TiffLayout,
        metadata: ImageMetadata,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        threads: int = 1,
    ) -> None:
        super().__init__(path, tiff, layout, metadata, cache_bytes, threads)
        self.chunk = (min(_CHUNK[0], self.shape[0]), min(_CHUNK[1], self.shape[1]))
        self._stored = self.dtype.newbyteorder(tiff.byteorder)

    def _read_block(self, page: int, group: int, box: Box) -> NDArray[Any]:
        samples = self.layout.contiguous_samples
        rows, columns = box.axes
        pixel_bytes = samples * self.dtype.itemsize
        width = columns.length * pixel_bytes
        # Rows of full width follow one another on disk up to the end of their strip.
        together = self.layout.segment[0] if columns.length == self.shape[1] else 1
        parts = []
        row = rows.start
        while row < rows.stop:
            count = min(together - row % together, rows.stop - row)
            start = self._row_offset(page, group, row) + columns.start * pixel_bytes
            parts.append(self._pread(start, count * width))
            row += count
        stored = np.frombuffer(b"".join(parts), self._stored).reshape(*box.shape, samples)
        return np.ascontiguousarray(np.moveaxis(stored, -1, 0), self.dtype)

    def _row_offset(self, page: int, group: int, row: int) -> int:
        """Return where a row of a page starts in the file, in bytes."""
        row_bytes = raw_row_bytes(self.layout)
        if self.layout.contiguous:
            first = self.layout.image.data_offset or 0
            return first + ((page * self.layout.groups + group) * self.shape[0] + row) * row_bytes
        strip, within = divmod(row, self.layout.segment[0])
        offsets = self.layout.page(page).dataoffsets
        return int(offsets[group * self.layout.grid[0] + strip]) + within * row_bytes
