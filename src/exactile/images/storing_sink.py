"""What sinks have in common that store tiles, compressed, until all of an image are there.

Tiles are compressed and stored on disk as they fill, in threads of their own; a journal, where one
is kept, says which. What is stored is what a later run goes on from. When all tiles are there, a
sink makes of them what gets the final name. What a kind of image adds to this class:

- `_encode`: the bytes of a tile, which depend on its pixels alone.
- `_new_store`: where the tiles of a page go, and come from.
- `_put_together`: from stored tiles to the whole image in the work folder.
- `_seal`: that it is on the disk, and what it holds.
- `_check_name`, `_give_name`: what may bear the final name already, and how it is replaced.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from math import prod
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from numpy.typing import NDArray

from exactile.errors import OutputError
from exactile.geometry import Box
from exactile.images.digest import FileDigest
from exactile.images.journal import Journal
from exactile.images.metadata import PIXEL_TYPES
from exactile.images.sink import OutputImage, Sink
from exactile.images.source import Plane
from exactile.images.spool import Place
from exactile.images.tile_assembler import TileAssembler, TileKey
from exactile.images.work_folder import (
    make_empty,
    named_errors,
    remove,
    sync,
    sync_folder,
    work_folder,
)

TILE_SIDE = 1024

_WHOLE = "whole"
"""What gets the final name, in the work folder."""

logger = logging.getLogger(__name__)


class TileStore(Protocol):
    """The compressed tiles of one page on disk, in any order."""

    places: dict[int, Place]

    def append(self, tile: int, data: bytes) -> Place:
        """Store the bytes of a tile under its number. Raises OSError; it is not stored then."""
        ...

    def take_over(self, places: Mapping[int, Place]) -> list[int]:
        """Go on with what an earlier run stored; return the tiles it lost. Raises OSError."""
        ...


Store = TypeVar("Store", bound=TileStore)


class StoringSink(Sink, Generic[Store]):
    """An image whose tiles are stored, compressed, until all of them are there."""

    def __init__(
        self, path: Path, image: OutputImage, threads: int = 1, journal: Journal | None = None
    ) -> None:
        """Start writing `path`, or go on with what `journal` says; `threads` compress.

        With a journal, which must be that of `path`, leaving the `with` by an exception keeps what
        is stored.

        Raises OutputError where the folder is missing or not writable, or something else has the
        name, and ValueError for a dtype that is not among PIXEL_TYPES.
        """
        if image.dtype.name not in PIXEL_TYPES:
            raise ValueError(f"cannot write {image.dtype}; only {', '.join(PIXEL_TYPES)}")
        self.path = path
        self.image = image
        self._assembler = TileAssembler(image.shape, image.size_c, image.dtype, TILE_SIDE)
        self._journal = journal
        self._folder = work_folder(path)
        self._whole = self._folder / _WHOLE
        self._stores: dict[int, Store] = {}
        self._storing = Lock()
        self._assembled = self._finished = False
        with named_errors(path):
            if not path.parent.is_dir():
                raise OutputError(
                    f"{path} cannot be written: {path.parent} is no folder; create it"
                )
            self._check_name()
            if journal is None:
                make_empty(self._folder)
            else:
                self._take_over(journal)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="compress")
        self._in_flight: deque[Future[None]] = deque()
        # One waiting tile for each thread keeps it busy; more would only fill memory.
        self._limit = 2 * threads

    @abstractmethod
    def _encode(self, pixels: NDArray[Any]) -> bytes:
        """Return the bytes of a tile (Y, X); called by several threads."""

    @abstractmethod
    def _new_store(self, page: int) -> Store:
        """Return the store of a page, empty."""

    @abstractmethod
    def _put_together(self, whole: Path) -> None:
        """Make the image `whole` of the stored tiles, all of which are there. Raises OSError."""

    @abstractmethod
    def _check_name(self) -> None:
        """Raise OutputError where what has the final name must not be replaced."""

    @abstractmethod
    def _give_name(self, whole: Path) -> None:
        """Give `whole` the final name. Raises OSError."""

    def _take_over(self, journal: Journal) -> None:
        """Go on with the tiles in the journal whose bytes are what was written."""
        self._forget_strange_tiles(journal)
        for page, places in journal.tiles.items():
            store = self._stores[page] = self._new_store(page)
            lost = store.take_over(places)
            if lost:
                logger.warning(
                    "%s: %d stored tiles are damaged, and are made again", self.path.name, len(lost)
                )
            for number in lost:
                journal.lose(page, number)
        keys = self._assembler.keys(self.image.planes)
        self._assembler.keep(key for key in keys if self._is_stored(key))

    def _forget_strange_tiles(self, journal: Journal) -> None:
        """See that the journal speaks of no tile that the image does not have."""
        pages, tiles = prod(self.image.dimensions[:3]), prod(self._assembler.grid)
        strange = [
            (page, number)
            for page, places in journal.tiles.items()
            for number in places
            if page >= pages or number >= tiles
        ]
        if strange:
            logger.warning(
                "%s: its journal speaks of %d tiles that the image does not have; they are left",
                self.path.name,
                len(strange),
            )
        for page, number in strange:
            journal.lose(page, number)
        for page in {page for page, _ in strange if page >= pages}:
            del journal.tiles[page]

    def _write(self, plane: Plane, box: Box, pixels: NDArray[Any]) -> None:
        if self._finished:
            raise ValueError(f"{self.path} is finished; nothing can be written to it")
        for key, tile in self._assembler.add(plane, box, pixels):
            for channel in range(self.image.size_c):
                while len(self._in_flight) >= self._limit:
                    self._in_flight.popleft().result()
                page = self._page(plane, channel)
                job = self._pool.submit(self._store, page, self._number(key), tile[channel])
                self._in_flight.append(job)

    def _page(self, plane: Plane, channel: int) -> int:
        """Return the page of a plane's channel: Z varies fastest, then C, then T."""
        return (plane.t * self.image.size_c + channel) * self.image.size_z + plane.z

    def _number(self, key: TileKey) -> int:
        return key.row * self._assembler.grid[1] + key.column

    def _store(self, page: int, number: int, pixels: NDArray[Any]) -> None:
        """Compress a tile and write it to the disk; runs in a thread of the pool."""
        self._keep(page, number, self._encode(pixels))

    def _keep(self, page: int, number: int, data: bytes) -> None:
        with self._storing, named_errors(self.path):
            store = self._stores.get(page)
            if store is None:
                store = self._stores[page] = self._new_store(page)
            place = store.append(number, data)
            if self._journal is not None:
                self._journal.store(page, number, place)

    def adopt(self, plane: Plane, row: int, column: int, channels: Sequence[bytes]) -> None:
        """Store a tile that another process has compressed: the bytes of each of its channels.

        Raises OutputError where the disk refuses.
        """
        key = TileKey(plane, row, column)
        for channel, data in enumerate(channels):
            self._keep(self._page(plane, channel), self._number(key), data)
        self._assembler.keep([key])

    def _wait(self) -> None:
        """See that all tiles that are full are stored."""
        while self._in_flight:
            self._in_flight.popleft().result()

    def _has(self, plane: Plane, box: Box) -> bool:
        inside = box & Box.of_shape(self.image.shape)
        return all(self._is_stored(key) for key in self._assembler.keys_over(plane, inside))

    def _is_stored(self, key: TileKey) -> bool:
        pages = (self._page(key.plane, channel) for channel in range(self.image.size_c))
        stores = (self._stores.get(page) for page in pages)
        number = self._number(key)
        return all(store is not None and number in store.places for store in stores)

    def assemble(self) -> FileDigest:
        """Put the image together, without its name yet, and return what it holds.

        Raises CoverageError where pixels are missing, and OutputError where the disk refuses.
        """
        self._assembler.check_complete(self.image.planes)
        self._wait()
        with named_errors(self.path):
            self._put_together(self._whole)
            file = self._seal(self._whole)
            self._assembled = True
            return file

    def _seal(self, whole: Path) -> FileDigest:
        """See that what was put together is on the disk, and return what it holds."""
        sync(whole)
        return FileDigest.of(whole)

    def close(self) -> None:
        """Finish the file; see Sink.

        With a journal the temporary files stay until the `with` is left, so that what has to be
        written after the image can be, or a later run does it.
        """
        if self._finished:
            return
        try:
            if not self._assembled:
                self.assemble()
            with named_errors(self.path):
                self._give_name(self._whole)
            sync_folder(self.path.parent)
        except BaseException:
            self.suspend()
            raise
        self._stop()
        if self._journal is None:
            self._remove()

    def suspend(self) -> None:
        """Stop, and leave what is stored to a later run; without a journal, remove it."""
        if self._journal is not None:
            self._pool.shutdown()  # the few tiles that are full already are stored too
        self._stop()
        if self._journal is None or not self._journal.holds_tiles:
            self._remove()
        else:
            # A file is put together anew; a folder, which this leaves, holds the stored tiles.
            with suppress(OSError):
                self._whole.unlink()

    def discard(self) -> None:
        """Remove what was written; see Sink."""
        self._stop()
        self._remove()

    def _stop(self) -> None:
        self._finished = True
        self._pool.shutdown(cancel_futures=True)
        self._in_flight.clear()

    def _remove(self) -> None:
        if self._journal is None:
            remove(self._folder)
        else:
            self._journal.discard()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            self._remove()
        else:
            self.suspend()
            if self._journal is not None and self._journal.holds_tiles:
                error.add_note("the same command goes on from what is stored")
