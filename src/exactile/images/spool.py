"""Compressed tiles on disk, one file for each page, until the final file is put together.

A TIFF is written page by page and tile by tile; zones are finished in another order. Spools stay
until the final file has its name: a run that is killed while it puts the file together has all its
tiles still. The disk therefore holds the compressed image twice at the end, once in the spools and
once in the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a tile lie in the file of its page."""

    offset: int
    length: int
    crc32: int
    """Of the bytes, so that a later run sees whether they are what was written."""


class PageSpool:
    """The compressed tiles of one page, stored in any order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: dict[int, Place] = {}
        """Of each tile that is stored, by its number."""
        self._end = 0

    def append(self, tile: int, data: bytes) -> Place:
        """Store the bytes of a tile under its number; one stored before counts no more.

        Raises OSError; the tile is not stored then.
        """
        # Opened for each tile: the planes of a long series may all be open at once.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            write_at(descriptor, data, self._end)
        finally:
            os.close(descriptor)
        place = self.places[tile] = Place(self._end, len(data), crc32(data))
        self._end += len(data)
        return place

    def take_over(self, places: Mapping[int, Place]) -> list[int]:
        """Go on with what an earlier run stored, cut what follows, and return the tiles it lost.

        Every tile is read and compared with its checksum, in blocks; one that is not there, or has
        other bytes, is lost. Raises OSError.
        """
        self.places = {}
        self.path.touch()
        with self.path.open("r+b") as file:
            for tile, place in sorted(places.items(), key=lambda item: item[1].offset):
                if _checksum(file.fileno(), place) == place.crc32:
                    self.places[tile] = place
            self._end = max((p.offset + p.length for p in self.places.values()), default=0)
            file.truncate(self._end)
        return sorted(places.keys() - self.places.keys())

    def read(self) -> Iterator[bytes]:
        """Yield the tiles by their numbers. Raises OSError."""
        with self.path.open("rb") as file:
            for tile in sorted(self.places):
                yield self._read(file, self.places[tile])

    def read_tile(self, tile: int) -> bytes:
        """Return the bytes of the tile of a number. Raises OSError."""
        with self.path.open("rb") as file:
            return self._read(file, self.places[tile])

    def _read(self, file: BinaryIO, place: Place) -> bytes:
        file.seek(place.offset)
        data = file.read(place.length)
        if crc32(data) != place.crc32:
            raise OSError(f"{self.path} lost bytes while it was in use")
        return data


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`, in one call if the system takes it. Raises OSError."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _checksum(descriptor: int, place: Place) -> int | None:
    """Return the CRC-32 of what lies at `place`; None where the file ends before."""
    value, offset, end = 0, place.offset, place.offset + place.length
    while offset < end:
        block = os.pread(descriptor, min(_BLOCK, end - offset), offset)
        if not block:
            return None
        value, offset = crc32(block, value), offset + len(block)
    return value
