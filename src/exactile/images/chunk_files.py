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

    def __init__(
        self, path_of: Callable[[int], Path], named_of: Callable[[int], Path] | None = None
    ) -> None:
        """Store each tile in the file that `path_of` gives for its number.

        `named_of` gives the one that it has in the image under its final name.
        """
        self._path_of = path_of
        self._named_of = named_of
        self.places: dict[int, Place] = {}

    def path(self, tile: int) -> Path:
        """Return the file of a tile."""
        return self._path_of(tile)

    def append(self, tile: int, data: bytes) -> Place:
        """Store the bytes of a tile under its number; see TileStore."""
        path = self._path_of(tile)
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o666)
        try:
            write_at(descriptor, data, 0)
        finally:
            os.close(descriptor)
        place = self.places[tile] = Place(0, len(data), crc32(data))
        return place

    def take_over(self, places: Mapping[int, Place]) -> list[int]:
        """Go on with what an earlier run stored; see TileStore.

        A run that was killed after the image had its name has left its tiles there.
        """
        self.places = dict(places)
        lost = []
        for tile in sorted(places):
            try:
                self.read(tile)
            except OSError:
                if not self._take_from_named(tile):
                    del self.places[tile]
                    lost.append(tile)
        return lost

    def _take_from_named(self, tile: int) -> bool:
        """Copy a tile from the image under its final name, if that is the one that was stored."""
        if self._named_of is None:
            return False
        try:
            data = self._named_of(tile).read_bytes()
        except OSError:
            return False
        if crc32(data) != self.places[tile].crc32:
            return False
        self.append(tile, data)
        return True

    def read(self, tile: int) -> bytes:
        """Return the bytes of a tile. Raises OSError, also where they are not those stored."""
        path = self._path_of(tile)
        data = path.read_bytes()
        if crc32(data) != self.places[tile].crc32:
            raise OSError(f"{path} lost bytes while it was in use")
        return data
