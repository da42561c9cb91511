"""Where the pixels of a TIFF lie: which page holds a plane, in which tiles or strips.

One image of the file is read, at its full resolution. Pages store its samples one after another:

    axes     T  Z  C  S  Y  X  S          S is 1 but for one of the two: samples that have pages
    sizes    2  3  2  1  .  .  1          of their own within a page, or that alternate
    number   0 .. 11, in this order       = ((page * separate) + group) * contiguous + sample

Whatever the file calls an axis that its pages split into samples (tifffile writes (3, Y, X) so), it
is that axis. Samples are channels, after those that have pages of their own.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from xml.etree.ElementTree import ParseError

import numpy as np
from numpy.typing import NDArray
from tifffile import TIFF, TiffFrame, TiffPage

from exactile.errors import ImageError
from exactile.geometry import ceil_to
from exactile.images.grid import cell_count
from exactile.images.metadata import PIXEL_TYPES
from exactile.images.source import Plane
from exactile.images.tiff_image import Pages, TiffImage

DAMAGE = (
    ArithmeticError,
    AssertionError,
    LookupError,
    NotImplementedError,
    OSError,
    ParseError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What tifffile, its codecs and bfio raise for damaged files, found by truncating files at every
offset and by overwriting their bytes at random."""

# tifffile's letters for a sequence of pages that the file says nothing about. Bio-Formats takes
# the pages of a plain TIFF for time points; so do we.
_AXIS_NAMES = {"T": "T", "I": "T", "Q": "T", "Z": "Z", "C": "C", "S": "S"}


MOST_PLANES = 2**22
"""Planes of one sample in an image; what describes more would fill memory before it is read."""


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """An image of a TIFF as planes, channels and segments (tiles or strips)."""

    image: TiffImage
    """What is known of it from outside."""
    pages: Pages
    """The pages, in the order of the image's axes; None for one that is not in the file."""
    shape: tuple[int, int]
    """Height and width (Y, X) in pixels."""
    number_of: NDArray[np.int64]
    """The number of each plane of one sample, by (T, Z, channel)."""
    dtype: np.dtype[np.generic]
    """Type of a pixel, in the machine's byte order."""
    tiled: bool
    """Whether segments are tiles; strips otherwise."""
    segment: tuple[int, int]
    """Rows and columns of a segment; of the last strip, the rows it would have in full."""

    @property
    def keyframe(self) -> TiffPage:
        """The page that describes all others."""
        return self.image.keyframe

    @property
    def groups(self) -> int:
        """Samples of a page that each have segments of their own."""
        return int(self.keyframe.shaped[0])

    @property
    def contiguous_samples(self) -> int:
        """Samples that alternate within a segment."""
        return int(self.keyframe.shaped[-1])

    @property
    def contiguous(self) -> bool:
        """Whether all pixels are one run of bytes, described by one page."""
        return self.image.data_offset is not None

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Number of time points, planes and channels: T, Z, C."""
        size_t, size_z, size_c = self.number_of.shape
        return size_t, size_z, size_c

    @property
    def grid(self) -> tuple[int, int]:
        """Segments down and across one plane of samples."""
        return cell_count(self.shape, self.segment)

    def locate(self, plane: Plane, channel: int) -> tuple[int, int, int]:
        """Return the page, the group of samples in it, and the sample, that hold a channel."""
        number = int(self.number_of[plane.t, plane.z, channel])
        rest, sample = divmod(number, self.contiguous_samples)
        return *divmod(rest, self.groups), sample

    def page(self, index: int) -> TiffPage | TiffFrame:
        """Return a page of the image; its presence was checked when the file was opened."""
        page = self.pages[index]
        assert page is not None
        return page


def read_layout(image: TiffImage, path: Path) -> TiffLayout:
    """Return the layout of an image of a TIFF.

    Raises ImageError for a file that is unfinished, or of a kind that is not supported, and what
    tifffile raises (DAMAGE) where its structure makes no sense.
    """
    keyframe = image.keyframe
    _check_kind(image, path)
    assert keyframe.dtype is not None
    separate, _, height, width, _ = keyframe.shaped
    numbers = _numbers(image, path)
    count = numbers.size // (separate * keyframe.shaped[-1])
    pages = image.load()
    if image.data_offset is None and len(pages) != count:
        raise ImageError(
            f"{path} describes {count} pages but has {len(pages)}: it is truncated or unfinished; "
            "copy or write it again"
        )
    segment = (
        (keyframe.tilelength, keyframe.tilewidth)
        if keyframe.is_tiled
        else (min(keyframe.rowsperstrip, height), width)
    )
    return TiffLayout(
        image=image,
        pages=pages,
        shape=(height, width),
        number_of=numbers,
        dtype=keyframe.dtype.newbyteorder("="),
        tiled=keyframe.is_tiled,
        segment=segment,
    )


def image_sizes(image: TiffImage, path: Path) -> tuple[int, int, int, int]:
    """Return the sizes T, Z, Y, X of an image; where its pages lie is not read.

    Raises ImageError for an image of a kind that is not supported.
    """
    _check_kind(image, path)
    size_t, size_z = (
        image.spread.file_of if image.spread is not None else _numbers(image, path)
    ).shape[:2]
    return size_t, size_z, image.keyframe.imagelength, image.keyframe.imagewidth


def _check_kind(image: TiffImage, path: Path) -> None:
    keyframe = image.keyframe
    if 0 in image.shape or 0 in (keyframe.imagelength, keyframe.imagewidth):
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


def _numbers(image: TiffImage, path: Path) -> NDArray[np.int64]:
    """Return the number of each plane of one sample, by (T, Z, channel)."""
    axes, shape = image.axes, image.shape
    separate, _, height, width, contiguous = image.keyframe.shaped
    at = axes.find("YX")
    inner = shape[at:] if at >= 0 else ()
    if inner[:2] != (height, width) or prod(inner[2:]) != contiguous or prod(shape[:at]) % separate:
        raise _unknown(path, axes, shape)
    kept = [(a, n) for a, n in zip(axes, shape, strict=True) if a not in "YX" and n > 1]
    names = [_AXIS_NAMES.get(axis, axis) for axis, _ in kept]
    if len(set(names)) < len(names) or not set(names) <= set("TZCS"):
        raise _unknown(path, axes, shape)
    count = prod(side for _, side in kept)
    if count > MOST_PLANES:
        raise ImageError(f"{path} describes {count} planes, more than an image has: it is damaged")
    order = np.arange(count).reshape([side for _, side in kept])
    order = order.reshape(*order.shape, *(1,) * (4 - len(names)))
    names += [axis for axis in "TZCS" if axis not in names]
    order = order.transpose([names.index(axis) for axis in "TZCS"])
    return order.reshape(*order.shape[:2], -1)


def _unknown(path: Path, axes: str, shape: Sequence[int]) -> ImageError:
    hidden = "YX" if "YX" in axes else ""
    pairs = zip(axes, shape, strict=True)
    given = ", ".join(f"{a}={n}" for a, n in pairs if n > 1 and a not in hidden)
    return ImageError(
        f"{path} has axes ({given}); before Y and X only T, Z and C, each once, have a meaning "
        "here, and after them samples: write it as an OME-TIFF that names them"
    )


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
