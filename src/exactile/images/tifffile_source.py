"""Tiles and strips of any size and compression that tifffile has a decoder for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile

from exactile.geometry import Box, floor_to
from exactile.images.grid import cell, cells_over
from exactile.images.metadata import ImageMetadata
from exactile.images.source import DEFAULT_CACHE_BYTES
from exactile.images.tiff_colours import to_rgb
from exactile.images.tiff_layout import TiffLayout, blocks_of, segment_name
from exactile.images.tiff_source import TiffSource

_CHUNK_SIDE = 512
_CHUNK_BYTES = 2**20


class TifffileSource(TiffSource):
    """A TIFF whose segments are decoded by tifffile, several small ones as one chunk."""

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
        self.chunk = _chunk(layout)

    def _read_block(self, page: int, group: int, box: Box) -> NDArray[Any]:
        rows, columns = self.layout.grid
        step = self.layout.segment
        pixels = np.empty((self.layout.contiguous_samples, *box.shape), self.dtype)
        for row, column in cells_over(box, step):
            segment = cell(self.shape, step, row, column)
            decoded = self._decode(page, (group * rows + row) * columns + column)
            if decoded.shape[0] < segment.shape[0] or decoded.shape[1] < segment.shape[1]:
                raise ValueError(f"decoded to {decoded.shape}, not {segment.shape}")
            # Chunks are whole segments: nothing but the padding at an edge is cut off.
            inside = decoded[: segment.shape[0], : segment.shape[1]]
            pixels[segment.relative_to(box).slices] = np.moveaxis(inside, -1, 0)
        return pixels

    def _decode(self, page: int, index: int) -> NDArray[Any]:
        """Return segment `index` of a page (Y, X, samples), padded where the file pads it.

        A segment that is left out is background; whether the format says so was checked.
        """
        frame, keyframe = self.layout.page(page), self.layout.keyframe
        offset, length = frame.dataoffsets[index], frame.databytecounts[index]
        if offset == 0 or length == 0:
            return np.full((*self.layout.segment, self.layout.contiguous_samples), keyframe.nodata)
        data = self._pread(offset, length)
        try:
            decoded, _, _ = keyframe.decode(
                data, index, jpegtables=frame.jpegtables, jpegheader=keyframe.jpegheader
            )
        except (RuntimeError, ValueError, TypeError) as error:
            raise ValueError(f"{segment_name(self.layout, page, index)}: {error}") from error
        if decoded is None:
            raise ValueError(f"{segment_name(self.layout, page, index)} has no data")
        return to_rgb(decoded[0], keyframe)


def _chunk(layout: TiffLayout) -> tuple[int, int]:
    """Return a chunk of whole segments, large enough not to drown in calls."""
    height, width = layout.segment
    if layout.tiled:
        return (
            blocks_of(height, layout.shape[0], _CHUNK_SIDE),
            blocks_of(width, layout.shape[1], _CHUNK_SIDE),
        )
    # A strip is as wide as the image: fewer rows of it fit.
    row_bytes = width * layout.contiguous_samples * layout.dtype.itemsize
    rows = min(_CHUNK_SIDE, floor_to(_CHUNK_BYTES // row_bytes, height))
    return blocks_of(height, layout.shape[0], rows), width
