"""The images of a Micro-Manager stack, by the index that the file carries: one for each position.

Micro-Manager saves a file for each position, with all of its planes; the summary in each of them is
that of the whole acquisition. What the index of a file lists is what is in it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from tifffile import TiffFile

from exactile.errors import ImageError
from exactile.images.tiff_directories import Directory
from exactile.images.tiff_image import TiffImage, page_loader

logger = logging.getLogger(__name__)

_CHANNEL, _SLICE, _FRAME, _POSITION, _OFFSET = range(5)
_PLANNED = {"T": "Frames", "Z": "Slices", "C": "Channels"}


def is_micromanager(tiff: TiffFile) -> bool:
    """Return whether an open TIFF has the index of a Micro-Manager stack."""
    return tiff.is_micromanager and "IndexMap" in (tiff.micromanager_metadata or {})


def micromanager_images(
    tiff: TiffFile, path: Path, directories: Sequence[Directory]
) -> list[TiffImage]:
    """Return the image of each position in an open TIFF.

    Raises ImageError where the index lists pages that are not there, or not all of an image.
    """
    settings = tiff.micromanager_metadata or {}
    index = np.asarray(settings["IndexMap"], np.int64)
    summary = settings.get("Summary", {})
    if not len(index):
        raise ImageError(f"{path} has no pixels: its Micro-Manager index is empty")
    positions = np.unique(index[:, _POSITION]).tolist()
    number_of = {directory.offset: number for number, directory in enumerate(directories)}
    images = []
    for position in positions:
        rows = index[index[:, _POSITION] == position]
        try:
            pages = [number_of[offset] for offset in rows[:, _OFFSET].tolist()]
        except KeyError as error:
            raise ImageError(
                f"{path} is truncated: its Micro-Manager index lists a page at byte {error}, which "
                "is not one of its pages; copy it again"
            ) from error
        places = rows[:, [_FRAME, _SLICE, _CHANNEL]]
        sizes = _sizes(path, places, summary)
        order = np.full(sizes, -1, np.int64)
        order[tuple(places.T)] = pages
        images.append(_image(tiff, f"position {position}", sizes, order.ravel().tolist()))
    return images


def _sizes(
    path: Path, places: np.ndarray[Any, np.dtype[np.int64]], summary: Mapping[str, Any]
) -> tuple[int, ...]:
    """Return the sizes T, Z, C of an image whose planes are at `places`, all of them."""
    sizes = tuple((places.max(axis=0) + 1).tolist())
    if len(places) != prod(sizes) or len(np.unique(places, axis=0)) != prod(sizes):
        raise ImageError(
            f"{path} holds {len(places)} of {prod(sizes)} planes of its image, by its "
            "Micro-Manager index: the others are in files that belong to it, or were never made; "
            "save it as one file for each position"
        )
    planned = tuple(int(summary.get(_PLANNED[axis], 1)) for axis in "TZC")
    if any(size < plan for size, plan in zip(sizes[1:], planned[1:], strict=True)):
        raise ImageError(
            f"{path} holds Z={sizes[1]} and C={sizes[2]}, and its Micro-Manager summary has "
            f"Z={planned[1]} and C={planned[2]}: the others are in files that belong to it, or "
            "were never made; save it as one file for each position"
        )
    if sizes[0] < planned[0]:
        following = path.name.replace(".", "_1.", 1)
        if (path.parent / following).exists():
            raise ImageError(
                f"{path} holds T={sizes[0]} of T={planned[0]}, and goes on in {following}: save it "
                "as one file for each position"
            )
        logger.warning(
            "%s: the acquisition ended before its time: T=%d of T=%d", path, sizes[0], planned[0]
        )
    return sizes


def _image(tiff: TiffFile, name: str, sizes: Sequence[int], pages: list[int]) -> TiffImage:
    keyframe = tiff.pages.first
    return TiffImage(
        name=name,
        axes="TZCSYXS",
        shape=(*sizes, keyframe.shaped[0], *keyframe.shaped[2:]),
        keyframe=keyframe,
        load=page_loader(tiff, pages),
    )
