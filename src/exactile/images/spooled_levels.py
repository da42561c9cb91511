"""The smaller levels of an image, made of its compressed tiles on disk, and stored beside them.

    <name>.partial/page-000000             tiles of the full resolution
    <name>.partial/page-000000-level-1     made of them

They are made once all tiles of the full resolution are there, one level after the other, and are
in no journal: what a run left that was killed meanwhile is made again, to the same bytes, in a
small part of the time that a network takes. They have a third of the pixels of the image.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from numpy.typing import NDArray

from exactile.images.compression import compress, decompress
from exactile.images.grid import cell_count
from exactile.images.levels import level_shapes, next_level
from exactile.images.sink import OutputImage
from exactile.images.spool import PageSpool


class SpooledLevels:
    """The levels of one image but the first, its full resolution."""

    def __init__(self, image: OutputImage, side: int) -> None:
        """Describe the levels of `image` in tiles of `side`; none where it has no pyramid."""
        self.image = image
        self.shapes = level_shapes(image.shape, side)[1:] if image.pyramid else ()
        """Height and width of each level, from the half down."""
        self._side = side
        self._spools: list[dict[int, PageSpool]] = []

    def make(self, spools: Mapping[int, PageSpool]) -> None:
        """Make all levels, beside `spools`, which hold every tile of each page of the image.

        One tile is halved while another one is compressed in a thread. Raises OSError.
        """
        self.remove()
        before, shape = spools, self.image.shape
        with ThreadPoolExecutor(1, thread_name_prefix="compress") as pool:
            for number, smaller in enumerate(self.shapes, 1):
                level: dict[int, PageSpool] = {}
                self._spools.append(level)
                for page, spool in before.items():
                    path = spools[page].path
                    level[page] = PageSpool(path.with_name(f"{path.name}-level-{number}"))
                    level[page].path.unlink(missing_ok=True)  # a killed run's
                    self._halve(spool, shape, level[page], pool)
                before, shape = level, smaller

    def _halve(
        self,
        source: PageSpool,
        shape: tuple[int, int],
        target: PageSpool,
        pool: ThreadPoolExecutor,
    ) -> None:
        """Make the level after `source`, which has `shape`, and wait until it is stored."""
        read = partial(self._read, source, cell_count(shape, (self._side, self._side))[1])
        in_flight: deque[Future[None]] = deque()
        tiles = next_level(shape, self._side, read, self.image.downsampling)
        # Row by row from 0: the order of the tiles is their number.
        for number, (_, _, tile) in enumerate(tiles):
            in_flight.append(pool.submit(_store, target, number, tile))
            if len(in_flight) > 2:
                in_flight.popleft().result()
        for each in in_flight:
            each.result()

    def _read(self, spool: PageSpool, columns: int, row: int, column: int) -> NDArray[Any]:
        data = spool.read_tile(row * columns + column)
        return decompress(data, self.image.dtype, self._side)

    def tiles(self, level: int) -> Iterator[bytes]:
        """Yield the stored tiles of a level, 1 for the half, page by page. Raises OSError."""
        for page in sorted(self._spools[level - 1]):
            yield from self._spools[level - 1][page].read()

    def remove(self) -> None:
        """Remove what `make` stored; it may be called again."""
        for level in self._spools:
            for spool in level.values():
                spool.path.unlink(missing_ok=True)
        self._spools.clear()


def _store(spool: PageSpool, number: int, pixels: NDArray[Any]) -> None:
    spool.append(number, compress(pixels))
