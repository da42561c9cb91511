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
from collections.abc import Set
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
from exactile.images.folder_exchange import replace_folder
from exactile.images.grid import cell, cell_count
from exactile.images.journal import Journal
from exactile.images.levels import level_shapes
from exactile.images.links import refuse_links
from exactile.images.sink import OutputImage
from exactile.images.source import Plane
from exactile.images.storing_sink import TILE_SIDE, StoringSink
from exactile.images.zarr_axes import AXES
from exactile.images.zarr_layout import chunk_form, plane_folder
from exactile.images.zarr_metadata import build_attributes
from exactile.images.zarr_open import is_zarr

_STEP = (TILE_SIDE, TILE_SIDE)


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
        folder = plane_folder(self._version, level, Plane(t, z), c)
        columns = cell_count(self._shapes[level], _STEP)[1]

        def path_in(image: Path, tile: int) -> Path:
            row, column = divmod(tile, columns)
            return image / folder / f"{row}/{column}"

        return ChunkFiles(partial(path_in, self._whole), partial(path_in, self.path))

    def _check_name(self) -> None:
        refuse_links(self.path, self.path.parent)
        if self.path.is_dir() and not is_zarr(self.path) and any(self.path.iterdir()):
            raise OutputError(
                f"{self.path} cannot be written: a folder that is no Zarr has that name; remove it"
            )
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path} cannot be written: a file has that name; remove it")

    def _give_name(self, whole: Path) -> None:
        """Give `whole` the final name, at once; see `replace_folder`."""
        replace_folder(whole, self.path, self._folder)

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
        """Remove all but the chunks of full resolution, which a run left that was killed here.

        That may be levels, documents that were not yet renamed, or an image that this one replaced.
        """
        kept = {store.path(number) for store in self._stores.values() for number in store.places}
        folders = {folder for path in kept for folder in path.relative_to(whole).parents}
        _keep_only(whole, kept, {whole / folder for folder in folders})

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
                "compressors": numcodecs.Blosc(
                    compression.BLOSC, compression.LEVEL, compression.SHUFFLE
                ),
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


def _keep_only(folder: Path, files: Set[Path], folders: Set[Path]) -> None:
    """Remove what is under `folder`, but for `files`, and for the `folders` that they lie in."""
    for path in folder.iterdir():
        if path in folders and not path.is_symlink():
            _keep_only(path, files, folders)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path not in files:
            path.unlink()


def _within(part: Interval, whole: Interval) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)
