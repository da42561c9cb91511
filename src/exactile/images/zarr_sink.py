"""OME-Zarr of chunks of 1024 x 1024 pixels, with all levels down to a single chunk.

OME-Zarr 0.4 unless the image asks for 0.5. What is in them is the same; what differs is who reads
them. 0.4 (Zarr 2) is what every reader of OME-Zarr knows: bfio of any age and the tools built on
it, nyxus, Bio-Formats, OMERO, QuPath, napari, neuroglancer. 0.5 (Zarr 3) is known to newer ones.
What 0.5 has more, shards, would only keep writers of one image from working side by side. The axes
are always T, C, Z, Y, X: bfio and others go by their number.

Tiles of full resolution are stored as the chunks that they are to be, in the work folder, by their
position alone. Levels and metadata are made when all of them are there.
"""

from __future__ import annotations

import shutil
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numcodecs  # type: ignore[import-untyped]
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import GzipCodec

from exactile.errors import OutputError
from exactile.geometry import Interval
from exactile.images import compression
from exactile.images.chunk_files import ChunkFiles
from exactile.images.downsampling import halve
from exactile.images.grid import cell, cell_count
from exactile.images.journal import Journal
from exactile.images.levels import level_shapes
from exactile.images.sink import OutputImage
from exactile.images.source import Plane
from exactile.images.storing_sink import TILE_SIDE, StoringSink
from exactile.images.zarr_axes import AXES
from exactile.images.zarr_layout import chunk_form, plane_folder
from exactile.images.zarr_metadata import build_attributes
from exactile.images.zarr_open import is_zarr

_STEP = (TILE_SIDE, TILE_SIDE)

_DOCUMENTS = (".zgroup", ".zattrs", ".zarray", "zarr.json")


class ZarrSink(StoringSink[ChunkFiles]):
    """An OME-Zarr folder being written."""

    def __init__(
        self,
        path: Path,
        image: OutputImage,
        threads: int = 1,
        journal: Journal | None = None,
    ) -> None:
        """Start writing the folder `path`; see StoringSink."""
        self._version = image.zarr_version
        self._form = chunk_form(self._version)
        self._shapes = level_shapes(image.shape, TILE_SIDE)
        super().__init__(path, image, threads, journal)

    def _encode(self, pixels: NDArray[Any]) -> bytes:
        return compression.compress(pixels, self._form)

    def _new_store(self, page: int) -> ChunkFiles:
        return self._level_store(0, page)

    def _level_store(self, level: int, page: int) -> ChunkFiles:
        rest, z = divmod(page, self.image.size_z)
        t, c = divmod(rest, self.image.size_c)
        folder = self._whole / plane_folder(self._version, level, Plane(t, z), c)
        columns = cell_count(self._shapes[level], _STEP)[1]

        def path_of(tile: int) -> Path:
            row, column = divmod(tile, columns)
            return folder / f"{row}/{column}"

        return ChunkFiles(path_of)

    def _check_name(self) -> None:
        if self.path.is_dir() and not is_zarr(self.path) and any(self.path.iterdir()):
            raise OutputError(
                f"{self.path} cannot be written: a folder that is no Zarr has that name; remove it"
            )
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path} cannot be written: a file has that name; remove it")

    def _give_name(self, whole: Path) -> None:
        """Rename; a folder that is replaced steps aside first, which two renames need a moment for.

        A process that is killed in that moment leaves no image under the name, never part of one.
        """
        if not self.path.exists():
            whole.rename(self.path)
            return
        aside = self._folder / "replaced"
        self.path.rename(aside)
        try:
            whole.rename(self.path)
        except OSError:
            aside.rename(self.path)
            raise
        shutil.rmtree(aside)

    def _put_together(self, whole: Path) -> None:
        self._clear(whole)
        below = self._stores
        for level in range(1, len(self._shapes)):
            stores = {page: self._level_store(level, page) for page in sorted(below)}
            grid = cell_count(self._shapes[level], _STEP)
            keys = product(sorted(below), range(grid[0]), range(grid[1]))
            make = partial(self._make_tile, level, below, stores)
            for _ in self._pool.map(make, keys):
                pass
            below = stores
        self._describe(whole)

    def _clear(self, whole: Path) -> None:
        """Remove what a run made that was killed here, but for the chunks of full resolution."""
        for level in range(1, len(self._shapes)):
            if (whole / str(level)).exists():
                shutil.rmtree(whole / str(level))
        for folder, name in product((whole, whole / "0"), _DOCUMENTS):
            (folder / name).unlink(missing_ok=True)

    def _make_tile(
        self,
        level: int,
        below: dict[int, ChunkFiles],
        stores: dict[int, ChunkFiles],
        key: tuple[int, int, int],
    ) -> None:
        """Make a tile of a level from the four, or fewer at the edges, that it stands for."""
        page, row, column = key
        shape, columns = self._shapes[level - 1], cell_count(self._shapes[level - 1], _STEP)[1]
        wide = cell(shape, (2 * TILE_SIDE, 2 * TILE_SIDE), row, column)
        pixels = np.empty((1, *wide.shape), self.image.dtype)
        rows, cols = (axis.split(TILE_SIDE) for axis in wide.axes)
        for vertical, horizontal in product(rows, list(cols)):
            number = vertical.start // TILE_SIDE * columns + horizontal.start // TILE_SIDE
            tile = self._decode(below[page].read(number))[None]
            part = tile[:, : vertical.length, : horizontal.length]
            place = (_within(vertical, wide.axes[0]), _within(horizontal, wide.axes[1]))
            pixels[:, *place] = part
        half = halve(pixels, self.image.downsampling)[0]
        padded = np.zeros(_STEP, self.image.dtype)
        padded[: half.shape[0], : half.shape[1]] = half
        number = row * cell_count(self._shapes[level], _STEP)[1] + column
        stores[page].append(number, self._encode(padded))

    def _decode(self, data: bytes) -> NDArray[Any]:
        return compression.decompress(data, self.image.dtype, TILE_SIDE, self._form)

    def _describe(self, whole: Path) -> None:
        """Write the metadata of the group and of its arrays."""
        attributes = build_attributes(self.image, len(self._shapes), self._version)
        of_zarr: Literal[2, 3] = 2 if self._version == "0.4" else 3
        group = zarr.create_group(str(whole), zarr_format=of_zarr, attributes=attributes)
        lead = (self.image.size_t, self.image.size_c, self.image.size_z)
        codec: dict[str, Any] = (
            {
                "compressors": numcodecs.Zlib(compression.LEVEL),
                "chunk_key_encoding": {"name": "v2", "separator": "/"},
            }
            if self._version == "0.4"
            else {"compressors": GzipCodec(level=compression.LEVEL), "dimension_names": AXES}
        )
        for level, shape in enumerate(self._shapes):
            group.create_array(
                str(level),
                shape=(*lead, *shape),
                chunks=(1, 1, 1, *_STEP),
                dtype=self.image.dtype.newbyteorder("<"),
                fill_value=0,
                **codec,
            )


def _within(part: Interval, whole: Interval) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)
