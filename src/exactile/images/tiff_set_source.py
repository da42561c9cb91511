"""An image whose planes lie in several TIFF files: a channel in each, or a time point.

The OME-XML of one of them, or of a file beside them, says which plane is where. The files have to
store their pages alike; few of them are open at a time.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.errors import ImageError
from exactile.images.metadata import ImageMetadata
from exactile.images.open_files import OpenFiles
from exactile.images.source import DEFAULT_CACHE_BYTES, Plane, Source
from exactile.images.tiff_file import damage_named, open_tiff
from exactile.images.tiff_image import Spread, TiffImage, full_page, page_loader
from exactile.images.tiff_pages import check_pages
from exactile.images.tiff_source import TiffSource


class TiffSetSource(Source):
    """The image that several TIFF files hold together; see Source for what it promises."""

    def __init__(
        self,
        spread: Spread,
        metadata: ImageMetadata,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        threads: int = 1,
    ) -> None:
        """Look at every file once.

        Raises:
            ImageError: if a file cannot be opened, or is of another kind than the first one.
        """
        super().__init__(cache_bytes, threads)
        self.path = spread.files[0]
        self.metadata = metadata
        self._spread = spread
        self._pages = [
            np.unique(spread.page_of[spread.file_of == number]).tolist()
            for number in range(len(spread.files))
        ]
        """Of each file, the pages that belong to the image; a source has them as its planes."""
        with self._open_file(0) as first:
            self.shape, self.chunk, self.dtype = first.shape, first.chunk, first.dtype
            self._samples = first.size_c
        self.size_t, self.size_z, channels = spread.file_of.shape
        self.size_c = channels * self._samples
        for number in range(1, len(spread.files)):
            self._open_file(number).close()
        self._files = OpenFiles(self._open_file)

    def _open_file(self, number: int) -> TiffSource:
        path = self._spread.files[number]
        with ExitStack() as opened:
            tiff, directories = open_tiff(path)
            opened.callback(tiff.close)
            with damage_named(path):
                pages = self._pages[number]
                full_page(tiff, pages[-1], path)
                keyframe = full_page(tiff, pages[0], path)
                separate, _, *sides, contiguous = keyframe.shaped
                image = TiffImage(
                    name="",
                    axes="ZSYXS",
                    shape=(len(pages), separate, *sides, contiguous),
                    keyframe=keyframe,
                    load=page_loader(tiff, pages),
                )
            source = check_pages(tiff, directories, image, path).source(
                path, self.metadata, cache_bytes=0, threads=1
            )
            opened.pop_all()
        if number > 0:
            self._check_alike(source)
        return source

    def _check_alike(self, source: TiffSource) -> None:
        for what, here, there in (
            ("pixels of type", source.dtype, self.dtype),
            ("a size (Y, X) of", source.shape, self.shape),
            ("samples:", source.size_c, self._samples),
            ("tiles or strips of", source.chunk, self.chunk),
        ):
            if here != there:
                source.close()
                raise ImageError(
                    f"{source.path} has {what} {here}, and {self.path} {there}: the files of an "
                    "image must be alike; write the image into one file"
                )

    def read_chunk(self, plane: Plane, channel: int, row: int, column: int) -> NDArray[Any]:
        """Return one channel of a block; see Source."""
        at = plane.t, plane.z, channel // self._samples
        number = int(self._spread.file_of[at])
        page = self._pages[number].index(int(self._spread.page_of[at]))
        with self._files.lend(number) as source:
            return source.read_chunk(Plane(0, page), channel % self._samples, row, column)

    def _close(self) -> None:
        self._files.close()
