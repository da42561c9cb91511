"""Rows of chunks being written into a store that other workers write too.

What is stored is what stays: nothing is put together, and nothing gets a name, when all chunks are
there. Who reads the store knows from elsewhere which rows are done.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from exactile.images import compression
from exactile.images.chunk_files import ChunkFiles
from exactile.images.chunk_rows import ChunkRows
from exactile.images.digest import FileDigest
from exactile.images.journal import Journal
from exactile.images.sink import OutputImage
from exactile.images.storing_sink import StoringSink
from exactile.images.zarr_layout import chunk_form


class ChunkRowsSink(StoringSink[ChunkFiles]):
    """Rows of chunks, as an image of one plane whose origin is that of the first row."""

    def __init__(
        self,
        path: Path,
        image: OutputImage,
        rows: ChunkRows,
        journal: Journal,
        threads: int = 1,
    ) -> None:
        """Start writing `rows`, which make up `image`, or go on with what `journal` says.

        No file gets the name `path`: it is that of the journal, and the one in messages. See
        StoringSink.
        """
        self._rows = rows
        super().__init__(path, image, threads, journal)

    def _encode(self, pixels: NDArray[Any]) -> bytes:
        return compression.compress(pixels, chunk_form(self.image.zarr_version))

    def _new_store(self, page: int) -> ChunkFiles:
        rows = self._rows

        def path_of(tile: int) -> Path:
            row, column = divmod(tile, rows.columns)
            return rows.path(page, rows.rows.start + row, column)

        return ChunkFiles(path_of)

    def _check_name(self) -> None:
        """Take any: the name is never given."""

    def _put_together(self, whole: Path) -> None:
        """Leave the chunks where they are: that is where the whole image has them."""

    def _seal(self, whole: Path) -> FileDigest:
        self._rows.sync()
        return self._rows.digest()

    def _give_name(self, whole: Path) -> None:
        """Give none; the whole image gets one, when all rows of all workers are there."""

    def discard(self) -> None:
        """Remove what was written; see Sink."""
        if not self._finished:
            self._stop()
            self._rows.remove()
        super().discard()
