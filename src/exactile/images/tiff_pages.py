"""From the image of an open TIFF to the source that reads its pages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tifffile import TiffFile

from exactile.images.metadata import ImageMetadata
from exactile.images.raw_source import RawSource
from exactile.images.tiff_checks import check_tiff
from exactile.images.tiff_colours import check_colours
from exactile.images.tiff_directories import Directory
from exactile.images.tiff_file import damage_named
from exactile.images.tiff_image import TiffImage
from exactile.images.tiff_layout import TiffLayout, is_raw, read_layout
from exactile.images.tiff_source import TiffSource
from exactile.images.tifffile_source import TifffileSource


@dataclass(frozen=True, slots=True)
class TiffPages:
    """An image of an open TIFF whose pages were found to be whole, and of a kind that is read."""

    tiff: TiffFile
    layout: TiffLayout
    sparse: bool
    """Whether tiles are left out that are background."""

    def source(
        self, path: Path, metadata: ImageMetadata, cache_bytes: int, threads: int
    ) -> TiffSource:
        """Return the source that reads them, which owns the open TIFF from then on."""
        by_range = self.layout.contiguous or (is_raw(self.layout) and not self.sparse)
        kind = RawSource if by_range else TifffileSource
        return kind(path, self.tiff, self.layout, metadata, cache_bytes, threads)


def check_pages(
    tiff: TiffFile, directories: tuple[Directory, ...], image: TiffImage, path: Path
) -> TiffPages:
    """Return the pages of an image. Raises ImageError, see `read_layout` and `check_tiff`."""
    with damage_named(path):
        layout = read_layout(image, path)
        sparse = check_tiff(tiff, layout, path, directories)
        check_colours(image.keyframe, path)
    return TiffPages(tiff, layout, sparse)
