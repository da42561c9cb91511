"""Compressed tiles on disk, one file for each page, until the final file is put together.

A TIFF is written page by page and tile by tile; zones are finished in another order. A page's spool
is removed as soon as it has been copied, so that the disk holds the image once, and one page twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


class PageSpool:
    """The compressed tiles of one page, appended in any order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[int, tuple[int, int]] = {}
        self._end = 0

    def append(self, tile: int, data: bytes) -> None:
        """Store the bytes of a tile under its number. Raises OSError."""
        # Opened for each tile: the planes of a long series may all be open at once.
        with self.path.open("ab", buffering=0) as file:
            written = 0
            while written < len(data):
                written += file.write(data[written:])
        self._places[tile] = (self._end, len(data))
        self._end += len(data)

    def drain(self) -> Iterator[bytes]:
        """Yield the tiles by their numbers, then remove the file. Raises OSError."""
        with self.path.open("rb") as file:
            for tile in sorted(self._places):
                offset, length = self._places[tile]
                file.seek(offset)
                data = file.read(length)
                if len(data) < length:
                    raise OSError(f"{self.path} lost bytes while it was in use")
                yield data
        self.path.unlink()
