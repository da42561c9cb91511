"""What a TIFF promises about itself, checked before any pixel is decoded.

A damaged or unfinished file should fail when it is opened, not after an hour of work, and should
never be taken for a smaller whole one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffFrame, TiffPage

from exactile.errors import ImageError
from exactile.images.tiff_directories import Directory
from exactile.images.tiff_layout import (
    TiffLayout,
    is_raw,
    raw_row_bytes,
    segment_name,
)

MAX_SEGMENT_BYTES = 256 * 2**20
"""The largest compressed tile or strip that is decoded, in bytes of pixels. It must be decoded
whole: without a limit, memory would depend on the image."""

_GDAL_NODATA = 42113

_SAY_WHAT_PAGES_ARE = frozenset(
    {270, 33628, 33629, 34361, 34362, 34412, 43314, 50838, 50839, 51123}
)
"""Tags of the formats that tifffile tells apart: description, MetaMorph, FluoView, LSM, NIH Image,
ImageJ, Micro-Manager."""

# Bytes of one value, by TIFF data type.
_VALUE_BYTES = dict(
    zip(range(1, 19), (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8), strict=True)
)


def check_tiff(
    tiff: TiffFile, layout: TiffLayout, path: Path, directories: Sequence[Directory]
) -> bool:
    """Raise ImageError where an open TIFF lacks data that it lists, as far as can be seen.

    That is: tags, pages, and tiles or strips that are absent or reach past the end of the file,
    those too large to be decoded in bounded memory, and pages stored otherwise than the first.
    Returns whether tiles are left out that are background, as the file's format says.
    """
    _check_tags(tiff, tiff.pages.first, path)
    if layout.keyframe.offset != tiff.pages.first.offset:
        _check_tags(tiff, layout.keyframe, path)
    _check_pages(tiff, layout, path)
    _check_alike(layout, path, directories)
    return _check_segments(layout, path, tiff.filehandle.size)


def _check_tags(tiff: TiffFile, page: TiffPage, path: Path) -> None:
    """Check the tags of a page: tifffile drops those whose values are cut off.

    The OME-XML is one of them, and without it an image would be taken for another.
    """
    form = tiff.tiff
    entry = struct.Struct(tiff.byteorder + ("HHQQ" if tiff.is_bigtiff else "HHII"))
    if entry.size != form.tagsize:
        return  # a dialect of TIFF (NDPI), whose tags only tifffile knows
    file = tiff.filehandle
    file.seek(page.offset)
    (count,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    for code, kind, values, offset in entry.iter_unpack(file.read(count * entry.size)):
        length = values * _VALUE_BYTES.get(kind, 0)
        if length > form.offsetsize and offset + length > file.size:
            raise _truncated(path, f"its tag {code} ends", offset + length, file.size)
        if code in _SAY_WHAT_PAGES_ARE and code not in page.tags:
            raise ImageError(
                f"{path} is damaged: its tag {code}, which says what its pages are, cannot be read;"
                " copy or write it again"
            )


def _check_pages(tiff: TiffFile, layout: TiffLayout, path: Path) -> None:
    for index, page in enumerate(layout.pages):
        if page is None:
            raise ImageError(
                f"{path} lacks page {index} of {len(layout.pages)}: it is truncated or "
                "unfinished; copy or write it again"
            )
        if page.parent is not tiff:
            raise ImageError(
                f"{path} keeps some of its planes in other files; write them into one file"
            )
    # Where the list of pages breaks off, tifffile takes the pages before for the whole: a truncated
    # stack would look like a shorter one.
    pointer = tiff.pages.next_page_offset
    tiff.filehandle.seek(pointer or 0)
    (following,) = struct.unpack(tiff.tiff.offsetformat, tiff.filehandle.read(tiff.tiff.offsetsize))
    if pointer and following:
        raise ImageError(
            f"{path} is truncated: after {len(tiff.pages)} pages the next should be at byte "
            f"{following}, the file ends at byte {tiff.filehandle.size}; copy or write it again"
        )


def _check_alike(layout: TiffLayout, path: Path, directories: Sequence[Directory]) -> None:
    """Check that pages are stored like the one that describes them all, which tifffile assumes."""
    at = {directory.offset: directory for directory in directories}
    own = at.get(layout.keyframe.offset)
    if own is None:
        return  # of a dialect of TIFF, or below a page
    for index, page in enumerate(layout.pages):
        other = None if page is None else at.get(page.offset)
        if other is not None and (difference := own.unlike(other)):
            raise ImageError(
                f"{path} stores page {index} of its image otherwise than the first ({difference}): "
                "write it again, with all pages alike"
            )


def _check_segments(layout: TiffLayout, path: Path, size: int) -> bool:
    """Check tiles and strips; return whether some are left out that are background."""
    if layout.contiguous:
        pixels = prod(layout.shape) * layout.number_of.size
        end = (layout.image.data_offset or 0) + pixels * layout.dtype.itemsize
        if end > size:
            raise _truncated(path, "its pixels end", end, size)
        return False
    if not is_raw(layout):
        _check_segment_size(layout, path)
    sparse = False
    count = prod(layout.grid) * layout.groups
    for index in range(len(layout.pages)):
        offsets, lengths = _segments(layout.page(index), count, path, index)
        # Some readers take tiles that are left out for zeros. In this field such a tile most often
        # is one whose writer was stopped: it is background where the format has it so, else never.
        left_out = (offsets == 0) | (lengths == 0)
        if left_out.any() and not _may_be_sparse(layout.keyframe):
            place = int(np.flatnonzero(left_out)[0])
            raise ImageError(
                f"{path} has no data for {segment_name(layout, index, place)}: its writer was "
                "stopped, or it is a sparse TIFF; write it again in full"
            )
        if left_out.any():
            sparse = True
            _check_segment_size(layout, path)
        elif is_raw(layout):
            first_rows = np.arange(count) % layout.grid[0] * layout.segment[0]
            rows = np.minimum(layout.segment[0], layout.shape[0] - first_rows)
            for place in np.flatnonzero(lengths < rows * raw_row_bytes(layout))[:1]:
                raise ImageError(
                    f"{path} has {lengths[place]} bytes for "
                    f"{segment_name(layout, index, int(place))}, which needs "
                    f"{rows[place] * raw_row_bytes(layout)}: it is damaged; copy or write it again"
                )
        ends = offsets + lengths
        last = int(ends.argmax())
        if ends[last] > size:
            name = segment_name(layout, index, last)
            raise _truncated(path, f"{name} ends", int(ends[last]), size)
    return sparse


def _may_be_sparse(page: TiffPage) -> bool:
    """Return whether a page is of a format that leaves out tiles of background: GDAL, Philips.

    Not where GDAL names a value of background that its pixels cannot have.
    """
    named = page.tags.valueof(_GDAL_NODATA)
    if named is None:
        return bool(page.is_gdal or page.is_geotiff or page.parent.is_philips)
    value = float(str(named).replace(",", "."))
    return bool(page.nodata == value or (page.nodata != page.nodata and value != value))


def _check_segment_size(layout: TiffLayout, path: Path) -> None:
    decoded = prod(layout.segment) * layout.contiguous_samples * layout.dtype.itemsize
    if decoded > MAX_SEGMENT_BYTES:
        kind = "tiles" if layout.tiled else "strips"
        raise ImageError(
            f"{path} is stored in {kind} of {decoded // 2**20} MiB, which can only be decoded "
            f"whole; at most {MAX_SEGMENT_BYTES // 2**20} MiB are: write it again with tiles "
            "of 1024 x 1024"
        )


def _segments(
    page: TiffPage | TiffFrame, count: int, path: Path, index: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    offsets = np.asarray(page.dataoffsets, np.int64)
    lengths = np.asarray(page.databytecounts, np.int64)
    if len(offsets) < count or len(lengths) < count:
        raise ImageError(
            f"{path} lists {min(len(offsets), len(lengths))} tiles or strips in page {index}, "
            f"which needs {count}: it is damaged or unfinished; copy or write it again"
        )
    return offsets[:count], lengths[:count]


def _truncated(path: Path, what: str, end: int, size: int) -> ImageError:
    return ImageError(
        f"{path} is truncated: {what} at byte {end}, the file at byte {size}; copy or write it "
        "again"
    )
