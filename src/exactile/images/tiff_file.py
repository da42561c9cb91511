"""A TIFF, opened: the image that is meant, where its pixels lie, and what it says of itself.

The chain of pages is looked at first; then what describes the images is read, by the format that
the file is of; then one of them is chosen, and its pages are checked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tifffile import TiffFile

from exactile.errors import ImageError
from exactile.images.micromanager_images import is_micromanager, micromanager_images
from exactile.images.ome_images import described_by, ome_images
from exactile.images.ome_planes import OmeError, is_ome
from exactile.images.series_images import series_images
from exactile.images.tiff_choice import choose_image
from exactile.images.tiff_directories import IMAGE_DESCRIPTION, Directory, read_directories
from exactile.images.tiff_image import TiffImage, page_loader
from exactile.images.tiff_layout import DAMAGE

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TiffContents:
    """What an open TIFF holds."""

    tiff: TiffFile
    """It belongs to whoever has this."""
    directories: tuple[Directory, ...]
    """Its pages, as they are stored."""
    image: TiffImage
    """The image that is meant."""
    series: str
    """Which of the file's images it is, in words."""
    only: bool
    """Whether it is the only one."""
    xml: str | None
    """The OME-XML that describes it, if any."""


def read_contents(tiff: TiffFile, path: Path, directories: tuple[Directory, ...]) -> TiffContents:
    """Return the image of an open TIFF that is meant.

    Raises ImageError where the structure makes no sense, the description does not fit the pages, or
    several images could be meant.
    """
    with damage_named(path):
        if not tiff.pages:
            raise ImageError(f"{path} is damaged: it has no pages; copy or write it again")
        images, xml = _images(tiff, path, directories)
        image, series = choose_image(images, path)
    return TiffContents(
        tiff=tiff,
        directories=directories,
        image=image,
        series=series,
        only=len(images) == 1,
        xml=xml if image.ome is not None else None,
    )


def open_tiff(path: Path) -> tuple[TiffFile, tuple[Directory, ...]]:
    """Return an open TIFF and its directories. Raises ImageError where it is none."""
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path} is empty (0 bytes): copy or write it again")
        directories = read_directories(path)
        return TiffFile(path), directories
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist: check the name and the folder") from error
    except OSError as error:
        raise ImageError(f"{path} cannot be opened: {error.strerror or error}") from error
    except DAMAGE as error:
        if _is_zip(path):
            raise ImageError(
                f"{path} is a zip archive, as OME-Zarr is sent in one (.zip, .ozx), which is not "
                "read: unpack it into a folder of its own whose name ends in .ome.zarr"
            ) from error
        raise ImageError(
            f"{path} is not a TIFF image, or is truncated within its header ({error}): give "
            "TIFF or OME-TIFF files, or copy it again"
        ) from error


def _is_zip(path: Path) -> bool:
    """Return whether a file begins as archives do, whole or cut, empty or not."""
    with path.open("rb") as file:
        return file.read(4) in (b"PK\3\4", b"PK\5\6")


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what tifffile raises for damage into an ImageError."""
    try:
        yield
    except DAMAGE as error:
        raise ImageError(
            f"{path} is damaged: its TIFF structure makes no sense ({error}); copy or write it "
            "again"
        ) from error


def description(tiff: TiffFile) -> str:
    """Return the description of the first page; '' where it has none."""
    value = tiff.pages.first.tags.valueof(IMAGE_DESCRIPTION)
    if isinstance(value, bytes):
        return value.rstrip(b"\0").decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def _images(
    tiff: TiffFile, path: Path, directories: Sequence[Directory]
) -> tuple[list[TiffImage], str | None]:
    """Return the images of an open TIFF, and the OME-XML that describes them."""
    text = description(tiff)
    if is_ome(text):
        try:
            document, xml = described_by(path, text)
            return ome_images(tiff, path, document, directories), xml
        except OmeError as error:
            if not is_micromanager(tiff):
                return _without_description(tiff, path, error), None
    if is_micromanager(tiff):
        return micromanager_images(tiff, path, directories), None
    return series_images(tiff, path, directories), None


def _without_description(tiff: TiffFile, path: Path, error: OmeError) -> list[TiffImage]:
    """Return the only page of a TIFF; of several, nobody knows what they are."""
    if len(tiff.pages) > 1 or not error.unreadable:
        raise ImageError(
            f"{path}: what its OME-XML says of its {len(tiff.pages)} pages cannot be used: {error}"
        ) from error
    logger.warning("%s: its OME-XML is ignored: %s", path, error)
    page = tiff.pages.first
    return [TiffImage("", page.axes, page.shape, page, page_loader(tiff, [0]))]
