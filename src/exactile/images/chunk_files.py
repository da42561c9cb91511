"""Compressed tiles as files of their own, one for each chunk of a Zarr array.

They lie where the finished folder has them, so that nothing is left to do for them when all are
there: the disk holds the compressed image once. Which file a tile is follows from its position
alone, so writers that are given rows of tiles of their own never meet in a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from zlib import crc32

from exactile.images.spool import Place, write_at


class ChunkFiles:
    """The compressed tiles of one page; a TileStore."""

    def __init__(self, path_of: Callable[[int], Path]) -> None:
        """Store each tile in the file that `path_of` gives for its number."""
        self._path_of = path_of
        self.places: dict[int, Place] = {}

    def append(self, tile: int, data: bytes) -> Place:
        """Store the bytes of a tile under its number; see TileStore."""
        path = self._path_of(tile)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            write_at(descriptor, data, 0)
        finally:
            os.close(descriptor)
        place = self.places[tile] = Place(0, len(data), crc32(data))
        return place

    def take_over(self, places: Mapping[int, Place]) -> list[int]:
        """Go on with what an earlier run stored; see TileStore."""
        self.places = dict(places)
        lost = []
        for tile in sorted(places):
            try:
                self.read(tile)
            except OSError:
                del self.places[tile]
                lost.append(tile)
        return lost

    def read(self, tile: int) -> bytes:
        """Return the bytes of a tile. Raises OSError, also where they are not those stored."""
        path = self._path_of(tile)
        data = path.read_bytes()
        if crc32(data) != self.places[tile].crc32:
            raise OSError(f"{path} lost bytes while it was in use")
        return data
