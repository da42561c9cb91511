"""One of the images in a TIFF: how large it is, and which pages hold it in which order.

A file may hold several: those of a plate, or a slide with its label and a picture of the whole
glass. Each format has its own description of them, and its own module that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffFrame, TiffPage

from exactile.errors import ImageError

Pages = Sequence[TiffPage | TiffFrame | None]


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the pages of an image lie that several files hold together."""

    files: tuple[Path, ...]
    """The files, in the order of the planes that they hold."""
    file_of: NDArray[np.int64]
    """The position in `files` of the file of each page, by (T, Z, channel // samples)."""
    page_of: NDArray[np.int64]
    """The page of that file, from 0."""


@dataclass(frozen=True, slots=True)
class TiffImage:
    """An image of a TIFF, at full resolution; its other pages are not read yet."""

    name: str
    """What the file calls it, or ''."""
    axes: str
    """A letter for each axis of what the pages store, one after the other: T, Z, C, samples S, and
    Y and X of one page. Others are letters of tifffile's that have no meaning here."""
    shape: tuple[int, ...]
    """The size of each axis."""
    keyframe: TiffPage
    """The page that describes all others."""
    load: Callable[[], Pages]
    """Reads where the pixels of each page lie, in the order of the axes."""
    auxiliary: bool = False
    """Whether the file calls it a label, an overview, a smaller version or a mask."""
    data_offset: int | None = None
    """Where all pixels begin, where they are one run of bytes that one page describes."""
    ome: int | None = None
    """Its position among the images of the OME-XML, where that describes it."""
    spread: Spread | None = None
    """The files that hold it, where they are several."""

    def __post_init__(self) -> None:
        # Of a damaged tag tifffile makes what it says: several numbers, or text.
        page = self.keyframe
        numbers = (*self.size, page.samplesperpixel, page.tilewidth, page.tilelength)
        if not all(isinstance(number, int) for number in numbers):
            raise ValueError(f"page {page.index} has several sizes: {numbers}")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as people name them."""
        return self.keyframe.imagewidth, self.keyframe.imagelength

    @property
    def pixels(self) -> int:
        """Pixels of one plane."""
        return self.size[0] * self.size[1]

    def __str__(self) -> str:
        width, height = self.size
        return f"{self.name!r} ({width} x {height})" if self.name else f"{width} x {height}"


def page_loader(tiff: TiffFile, numbers: Sequence[int]) -> Callable[[], Pages]:
    """Return what reads pages of the chain, all described by the first of them."""

    def load() -> Pages:
        tiff.pages.set_keyframe(numbers[0])
        tiff.pages.useframes = True
        return [tiff.pages[number] for number in numbers]

    return load


def full_page(tiff: TiffFile, number: int, path: Path) -> TiffPage:
    """Return a page of the chain with all of its tags. Raises ImageError where there is none."""
    if number >= len(tiff.pages):
        raise ImageError(
            f"{path} has {len(tiff.pages)} pages, and its metadata names page {number}: it is "
            "truncated, or its metadata is that of another file; copy or write it again"
        )
    page = tiff.pages.get(number)
    assert isinstance(page, TiffPage)
    return page
