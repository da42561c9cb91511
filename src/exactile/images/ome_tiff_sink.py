"""OME-TIFF as the next step of a workflow expects it: 1024 x 1024 tiles, XYZCT, deflate.

Compressed tiles wait in spools until all are there; then one pass puts the file together. The disk
holds the compressed image twice then, until the file has its name.

Smaller levels, where they are wanted, are made of the stored tiles before that pass. They are
SubIFDs of the pages, as OME-TIFF has them; an image that fits one tile has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from tifffile import FILETYPE, TiffWriter

from exactile.errors import OutputError
from exactile.images.compression import compress
from exactile.images.grid import cell_count
from exactile.images.journal import Journal
from exactile.images.metadata import PhysicalSize, build_ome_xml
from exactile.images.sample_format import sample_format
from exactile.images.sink import OutputImage
from exactile.images.spool import PageSpool
from exactile.images.spooled_levels import SpooledLevels
from exactile.images.storing_sink import TILE_SIDE, StoringSink

_CLASSIC_TIFF_LIMIT = 2**32 - 2**25
"""The largest file, in bytes, that classic TIFF addresses, less room for what surrounds pixels."""


class OmeTiffSink(StoringSink[PageSpool]):
    """An OME-TIFF being written."""

    def __init__(
        self, path: Path, image: OutputImage, threads: int = 1, journal: Journal | None = None
    ) -> None:
        """Start writing the file `path`; see StoringSink."""
        super().__init__(path, image, threads, journal)
        self._description = build_ome_xml(image.metadata, image.dimensions, image.dtype)

    def _encode(self, pixels: NDArray[Any]) -> bytes:
        return compress(pixels)

    def _new_store(self, page: int) -> PageSpool:
        return PageSpool(self._folder / f"page-{page:06}")

    def _check_name(self) -> None:
        if self.path.is_dir():
            raise OutputError(f"{self.path} cannot be written: a folder has that name; remove it")

    def _give_name(self, whole: Path) -> None:
        whole.replace(self.path)

    def _put_together(self, whole: Path) -> None:
        levels = SpooledLevels(self.image, TILE_SIDE)
        try:
            levels.make(self._stores)
            self._write_file(whole, levels)
        finally:
            levels.remove()

    def _write_file(self, whole: Path, levels: SpooledLevels) -> None:
        image = self.image
        common: dict[str, Any] = {
            "dtype": image.dtype,
            "photometric": "minisblack",
            "planarconfig": None,
            "tile": (TILE_SIDE, TILE_SIDE),
            "compression": "adobe_deflate",
            "metadata": None,
            "software": "exactile",
            "maxworkers": 1,
            "extratags": sample_format(image.dtype),
        }
        with TiffWriter(whole, bigtiff=needs_bigtiff(image), ome=False, byteorder="<") as writer:
            writer.write(
                self._tiles(),
                shape=image.dimensions,
                description=self._description.encode(),
                subifds=len(levels.shapes),
                **common,
                **_resolution(image.metadata.x, image.metadata.y),
            )
            for level, shape in enumerate(levels.shapes, 1):
                writer.write(
                    levels.tiles(level),
                    shape=(*image.dimensions[:3], *shape),
                    subfiletype=FILETYPE.REDUCEDIMAGE,
                    **common,
                    **_resolution(image.metadata.x, image.metadata.y, 2**level),
                )

    def _tiles(self) -> Iterator[bytes]:
        for page in sorted(self._stores):
            yield from self._stores[page].read()


def needs_bigtiff(image: OutputImage) -> bool:
    """Return whether a file of this shape and dtype may outgrow the 4 GiB of classic TIFF.

    The answer does not depend on how well the pixels compress: equal shapes give equal formats.
    """
    shapes = (image.shape, *SpooledLevels(image, TILE_SIDE).shapes)
    planes = image.size_t * image.size_c * image.size_z
    pages = planes * len(shapes)
    tiles = planes * sum(prod(cell_count(shape, (TILE_SIDE, TILE_SIDE))) for shape in shapes)
    # Deflate adds 5 bytes to a block that does not compress, and a header; each tile has an
    # offset and a length, each page some tags.
    stored = TILE_SIDE**2 * image.dtype.itemsize
    largest = tiles * (stored + stored // 1000 + 64) + pages * 1024
    return largest > _CLASSIC_TIFF_LIMIT


def _resolution(x: PhysicalSize | None, y: PhysicalSize | None, scale: int = 1) -> dict[str, Any]:
    """Return tifffile's arguments for the resolution tags: right, or that there is no unit.

    Of a level, a pixel is `scale` times as large as one of the image.
    """
    width, height = (None if size is None else size.centimetres for size in (x, y))
    if width is None or height is None:
        return {}
    width, height = width * scale, height * scale
    if not all(2**-31 < 1 / side < 2**31 for side in (width, height)):
        return {}  # a TIFF rational cannot hold it; OME-XML does
    return {"resolution": (1 / width, 1 / height), "resolutionunit": "CENTIMETER"}
