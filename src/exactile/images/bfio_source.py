"""OME-TIFF through bfio's BioReader, for the layouts that its python backend reads soundly.

bfio takes on trust what a file may not keep: that pages follow one another in XYZCT order from the
first, that pixels have the type and the size that the OME-XML gives. `is_sound_for_bfio` checks
these beforehand; other files go to the sources that read TIFF themselves.
"""

from __future__ import annotations

import logging
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from exactile.errors import ImageError
from exactile.images.metadata import PIXEL_TYPES, ImageMetadata
from exactile.images.source import DEFAULT_CACHE_BYTES, Plane, Source
from exactile.images.tiff_layout import DAMAGE, TiffLayout

if TYPE_CHECKING:
    from ome_types import OME

_TILE = (1024, 1024)

# None, LZW, deflate (both numbers), PackBits, LZMA, zstd (both numbers). JPEG is not among them:
# bfio does not pass on the tables that JPEG tiles share.
_COMPRESSIONS = frozenset({1, 5, 8, 32946, 32773, 34925, 34926, 50000})


class BfioSource(Source):
    """An OME-TIFF of 1024 x 1024 tiles, read one tile at a time."""

    chunk = _TILE

    def __init__(
        self,
        path: Path,
        layout: TiffLayout,
        metadata: ImageMetadata,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        threads: int = 1,
    ) -> None:
        super().__init__(cache_bytes, threads)
        self.path = path
        self.metadata = metadata
        self.shape = layout.shape
        self.size_t, self.size_z, self.size_c = layout.sizes
        self.dtype = layout.dtype
        # A reader lets one thread read at a time: each gets one of its own, the caller's included.
        self._readers: SimpleQueue[Any] = SimpleQueue()
        for _ in range(threads + 1 if threads > 1 else 1):
            self._readers.put(_open_reader(path))

    def read_chunk(self, plane: Plane, channel: int, row: int, column: int) -> NDArray[Any]:
        """Return one tile; see Source."""
        rows, columns = self.chunk_box(row, column).axes
        reader = self._readers.get()
        try:
            tile = reader.read(
                Y=[rows.start, rows.stop],
                X=[columns.start, columns.stop],
                Z=[plane.z, plane.z + 1],
                C=[channel],
                T=[plane.t],
            )
        except DAMAGE as error:
            raise ImageError(
                f"{self.path} cannot be read at tile (row {row}, column {column}) of {plane}, "
                f"channel {channel}: {error}; the file is damaged there: copy or write it again"
            ) from error
        finally:
            self._readers.put(reader)
        return np.asarray(tile, self.dtype)

    def _close(self) -> None:
        while not self._readers.empty():
            self._readers.get().close()


def is_sound_for_bfio(path: Path, layout: TiffLayout, ome: OME | None) -> bool:
    """Return whether bfio's python backend takes this file, and reads it as it is."""
    if ome is None or not path.name.endswith((".ome.tif", ".ome.tiff")) or layout.image.ome != 0:
        return False
    pixels = ome.images[0].pixels
    size_t, size_z, size_c = layout.sizes
    return (
        layout.tiled
        and layout.segment == _TILE
        and (layout.groups, layout.contiguous_samples) == (1, 1)
        and layout.keyframe.compression in _COMPRESSIONS
        and pixels.dimension_order.value == "XYZCT"
        and not pixels.interleaved
        and (pixels.size_t, pixels.size_z, pixels.size_c) == (size_t, size_z, size_c)
        and (pixels.size_y, pixels.size_x) == layout.shape
        and pixels.type.value == PIXEL_TYPES[layout.dtype.name]
        and _follow_one_another(layout)
    )


def _follow_one_another(layout: TiffLayout) -> bool:
    """Return whether the pages of an image are those of the file from its first, in XYZCT order."""
    order = layout.number_of.transpose(0, 2, 1).ravel().tolist()
    return [layout.page(page).index for page in order] == list(range(len(layout.pages)))


def _open_reader(path: Path) -> Any:
    try:
        # One tile at a time needs one worker, and more would hide errors.
        return _bio_reader()(path, backend="python", max_workers=1)
    except DAMAGE as error:
        raise ImageError(
            f"{path} cannot be opened by bfio: {error}; copy or write it again"
        ) from error


def _bio_reader() -> Any:
    """Return bfio's BioReader, importing bfio without the root log handler that it installs."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    from bfio import BioReader  # type: ignore[import-untyped]

    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    return BioReader
