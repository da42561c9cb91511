"""OME-TIFF as the next step of a workflow expects it: 1024 x 1024 tiles, XYZCT, deflate.

Compressed tiles wait in spools until all are there; then one pass puts the file together. The disk
holds the compressed image twice then, until the file has its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from tifffile import TiffWriter

from exactile.errors import OutputError
from exactile.images.compression import compress
from exactile.images.grid import cell_count
from exactile.images.journal import Journal
from exactile.images.metadata import PhysicalSize, build_ome_xml
from exactile.images.sink import OutputImage
from exactile.images.spool import PageSpool
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
        image = self.image
        resolution = _resolution(image.metadata.x, image.metadata.y)
        with TiffWriter(whole, bigtiff=needs_bigtiff(image), ome=False, byteorder="<") as writer:
            writer.write(
                self._tiles(),
                shape=image.dimensions,
                dtype=image.dtype,
                photometric="minisblack",
                planarconfig=None,
                tile=(TILE_SIDE, TILE_SIDE),
                compression="adobe_deflate",
                description=self._description.encode(),
                metadata=None,
                software="exactile",
                maxworkers=1,
                **resolution,
            )

    def _tiles(self) -> Iterator[bytes]:
        for page in sorted(self._stores):
            yield from self._stores[page].read()


def needs_bigtiff(image: OutputImage) -> bool:
    """Return whether a file of this shape and dtype may outgrow the 4 GiB of classic TIFF.

    The answer does not depend on how well the pixels compress: equal shapes give equal formats.
    """
    pages = image.size_t * image.size_c * image.size_z
    tiles = pages * prod(cell_count(image.shape, (TILE_SIDE, TILE_SIDE)))
    # Deflate adds 5 bytes to a block that does not compress, and a header; each tile has an
    # offset and a length, each page some tags.
    stored = TILE_SIDE**2 * image.dtype.itemsize
    largest = tiles * (stored + stored // 1000 + 64) + pages * 1024
    return largest > _CLASSIC_TIFF_LIMIT


def _resolution(x: PhysicalSize | None, y: PhysicalSize | None) -> dict[str, Any]:
    """Return tifffile's arguments for the resolution tags: right, or that there is no unit."""
    width, height = (None if size is None else size.centimetres for size in (x, y))
    if width is None or height is None:
        return {}
    if not all(2**-31 < 1 / side < 2**31 for side in (width, height)):
        return {}  # a TIFF rational cannot hold it; OME-XML does
    return {"resolution": (1 / width, 1 / height), "resolutionunit": "CENTIMETER"}
