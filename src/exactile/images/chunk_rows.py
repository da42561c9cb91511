"""Rows of chunks of one plane, in a store that several workers fill at once.

    <store>/0/<t>/<c>/<z>/0/...     worker 0
    <store>/0/<t>/<c>/<z>/1/...     worker 0
    <store>/0/<t>/<c>/<z>/2/...     worker 1

Chunks lie where the whole image has them. A row is a folder of one worker's alone, so no two ever
meet in a file, and none has to know of the others. The store has no metadata: nobody takes it for
an image.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from exactile.geometry import Interval
from exactile.images.digest import FileDigest
from exactile.images.grid import cell_count
from exactile.images.links import refuse_links
from exactile.images.sink import OutputImage
from exactile.images.source import Plane
from exactile.images.storing_sink import TILE_SIDE
from exactile.images.work_folder import sync, sync_folder
from exactile.images.zarr_layout import plane_folder


@dataclass(frozen=True, slots=True)
class ChunkRows:
    """What one worker has of a plane: the chunks of all its channels."""

    store: Path
    """The folder that all workers write to."""
    whole: OutputImage
    """Description of the whole image."""
    plane: Plane
    """The plane of the whole image."""
    rows: Interval
    """Rows of chunks, counted from the top of the plane."""

    @property
    def columns(self) -> int:
        """Number of chunks in a row."""
        return cell_count(self.whole.shape, (TILE_SIDE, TILE_SIDE))[1]

    def path(self, channel: int, row: int, column: int) -> Path:
        """Return the file of a chunk; `row` counts from the top of the plane."""
        return self._row(channel, row) / str(column)

    def digest(self) -> FileDigest:
        """Return the digest of a folder of just these chunks. Raises OSError."""
        paths = (str(path.relative_to(self.store)) for path in self._paths())
        return FileDigest.of_files(self.store, paths)

    def missing(self) -> Iterator[Path]:
        """Yield the files that are not there."""
        return (path for path in self._paths() if not path.is_file())

    def sync(self) -> None:
        """See that the chunks are on the disk. Raises OSError."""
        for folder in self._folders():
            sync(folder)
            sync_folder(folder.parent)

    def refuse_links(self, base: Path) -> None:
        """See that the chunks lie in folders, below `base`, and not behind links.

        Raises OutputError.
        """
        for folder in self._folders():
            refuse_links(folder, base)

    def remove(self) -> None:
        """Remove the chunks, as far as they are there."""
        for folder in self._folders():
            shutil.rmtree(folder, ignore_errors=True)

    def _paths(self) -> Iterator[Path]:
        for folder in self._folders():
            for column in range(self.columns):
                yield folder / str(column)

    def _folders(self) -> Iterator[Path]:
        for channel in range(self.whole.size_c):
            for row in range(self.rows.start, self.rows.stop):
                yield self._row(channel, row)

    def _row(self, channel: int, row: int) -> Path:
        plane = plane_folder(self.whole.zarr_version, 0, self.plane, channel)
        return self.store / plane / str(row)
