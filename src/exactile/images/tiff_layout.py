"""Where the pixels of a TIFF lie: which page holds a plane, in which tiles or strips.

Only the first series is read, at its full resolution. Pixels are taken as they are stored: neither
inverted (TIFF's MinIsWhite) nor looked up in a palette.
"""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TIFF, TiffFile, TiffFrame, TiffPage, TiffPageSeries

from exactile.errors import ImageError
from exactile.geometry import ceil_to
from exactile.images.grid import cell_count
from exactile.images.metadata import PIXEL_TYPES
from exactile.images.source import Plane

logger = logging.getLogger(__name__)

DAMAGE = (
    ArithmeticError,
    AssertionError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What tifffile, its codecs and bfio raise for damaged files, found by truncating files at every
offset and by overwriting their bytes at random."""

# tifffile's letters for a sequence of pages that the file says nothing about. Bio-Formats takes
# the pages of a plain TIFF for time points; so do we.
_AXIS_NAMES = {"T": "T", "I": "T", "Q": "T", "Z": "Z", "C": "C"}


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """The first series of a TIFF as planes, channels and segments (tiles or strips)."""

    series: TiffPageSeries
    """tifffile's view of the series."""
    shape: tuple[int, int]
    """Height and width (Y, X) in pixels."""
    page_of: NDArray[np.int64]
    """The position in the series of every page, by (T, Z, channel // samples)."""
    samples: int
    """Channels in one page: 3 for RGB, most often 1."""
    planar: bool
    """Whether the samples of a page lie one after the other, each in segments of its own."""
    dtype: np.dtype[Any]
    """Type of a pixel, in the machine's byte order."""
    tiled: bool
    """Whether segments are tiles; strips otherwise."""
    segment: tuple[int, int]
    """Rows and columns of a segment; of the last strip, the rows it would have in full."""
    contiguous: bool
    """Whether all pages are one run of bytes from `series.dataoffset`, described by one page."""
    _reading: Lock = field(default_factory=Lock, repr=False, compare=False)
    """tifffile reads what describes a page when it is first wanted, from where the file stands."""

    @property
    def keyframe(self) -> TiffPage:
        """The page that describes all others."""
        return self.series.keyframe

    @property
    def size_c(self) -> int:
        """Number of channels."""
        return int(self.page_of.shape[2]) * self.samples

    @property
    def contiguous_samples(self) -> int:
        """Samples that alternate within a segment."""
        return 1 if self.planar else self.samples

    @property
    def grid(self) -> tuple[int, int]:
        """Segments down and across one plane of samples."""
        return cell_count(self.shape, self.segment)

    def locate(self, plane: Plane, channel: int) -> tuple[int, int]:
        """Return the page in the series, and the sample within it, that hold a channel."""
        page = self.page_of[plane.t, plane.z, channel // self.samples]
        return int(page), channel % self.samples

    def page(self, index: int) -> TiffPage | TiffFrame:
        """Return a page of the series; its presence was checked when the file was opened."""
        with self._reading:
            page = self.series[index]
        assert page is not None
        return page


def read_layout(tiff: TiffFile, path: Path) -> TiffLayout:
    """Return the layout of the first series of an open TIFF.

    Raises ImageError for a file whose structure is damaged or unfinished, and for one of a kind
    that is not supported.
    """
    try:
        series = tiff.series[0]
        layout = _describe(series, path)
    except DAMAGE as error:
        raise ImageError(
            f"{path} is damaged: its TIFF structure makes no sense ({error}); copy or write it "
            "again"
        ) from error
    if len(tiff.series) > 1:
        logger.warning("%s holds %d series; the first is read", path, len(tiff.series))
    return layout


def _describe(series: TiffPageSeries, path: Path) -> TiffLayout:
    axes, shape = series.get_axes(squeeze=False), series.get_shape(squeeze=False)
    keyframe = series.keyframe
    if 0 in shape or 0 in (keyframe.imagelength, keyframe.imagewidth):
        raise ImageError(
            f"{path} has no pixels: it is still being written, or its writer was stopped; write it "
            "again"
        )
    if keyframe.dtype is None or keyframe.dtype.name not in PIXEL_TYPES:
        kind = "an unknown type" if keyframe.dtype is None else keyframe.dtype.name
        raise ImageError(
            f"{path} has pixels of {kind}; supported are {', '.join(PIXEL_TYPES)}: convert it"
        )
    if keyframe.compression not in TIFF.DECOMPRESSORS and keyframe.compression != 1:
        raise ImageError(
            f"{path} is compressed by TIFF scheme {keyframe.compression}, which cannot be decoded: "
            "write it again with deflate"
        )
    if keyframe.imagedepth > 1 or keyframe.tiledepth > 1:
        raise ImageError(
            f"{path} stores volumes in its pages (TIFF ImageDepth); write one page for each plane"
        )
    separate, _, height, width, contiguous_samples = keyframe.shaped
    outer = [(axis, side) for axis, side in zip(axes, shape, strict=True) if axis not in "YXS"]
    count = prod(side for _, side in outer)
    contiguous = len(series) == 1 < count and series.dataoffset is not None
    if not contiguous and len(series) != count:
        raise ImageError(
            f"{path} describes {count} pages but has {len(series)}: it is truncated or unfinished; "
            "copy or write it again"
        )
    segment = (
        (keyframe.tilelength, keyframe.tilewidth)
        if keyframe.is_tiled
        else (min(keyframe.rowsperstrip, height), width)
    )
    return TiffLayout(
        series=series,
        shape=(height, width),
        page_of=_page_order(outer, path),
        samples=separate * contiguous_samples,
        planar=separate > 1,
        dtype=keyframe.dtype.newbyteorder("="),
        tiled=keyframe.is_tiled,
        segment=segment,
        contiguous=contiguous,
    )


def _page_order(outer: list[tuple[str, int]], path: Path) -> NDArray[np.int64]:
    """Return the position of each page by (T, Z, C), given the axes before (Y, X) with sizes."""
    kept = [(axis, side) for axis, side in outer if side > 1]
    names = [_AXIS_NAMES.get(axis, axis) for axis, _ in kept]
    if len(set(names)) < len(names) or not set(names) <= set("TZC"):
        given = ", ".join(f"{axis}={side}" for axis, side in kept)
        raise ImageError(
            f"{path} has axes ({given}) before Y and X; only T, Z and C, each once, have a "
            "meaning here: write it as an OME-TIFF that names them"
        )
    order = np.arange(prod(side for _, side in kept)).reshape([side for _, side in kept])
    order = order.reshape(*order.shape, *(1,) * (3 - len(names)))
    names += [axis for axis in "TZC" if axis not in names]
    return order.transpose([names.index(axis) for axis in "TZC"])


def segment_name(layout: TiffLayout, page: int, index: int) -> str:
    """Return how messages call a segment: its page, and its place counted in segments from 0."""
    rows, columns = layout.grid
    row, column = divmod(index % (rows * columns), columns)
    place = f"tile (row {row}, column {column})" if layout.tiled else f"strip {row}"
    return f"{place} of page {page}"


def is_raw(layout: TiffLayout) -> bool:
    """Return whether the pixels can be read by byte ranges: plain strips without compression."""
    keyframe = layout.keyframe
    return (
        not layout.tiled
        and keyframe.compression == 1
        and keyframe.predictor == 1
        and keyframe.fillorder == 1
        and keyframe.bitspersample == 8 * layout.dtype.itemsize
        and not keyframe.is_subsampled
    )


def raw_row_bytes(layout: TiffLayout) -> int:
    """Return the length of one row of a raw page, in bytes."""
    return layout.shape[1] * layout.contiguous_samples * layout.dtype.itemsize


def blocks_of(segment: int, side: int, wanted: int) -> int:
    """Return the least multiple of `segment` that covers `wanted` positions, or the whole side."""
    return min(ceil_to(max(wanted, 1), segment), ceil_to(side, segment))
