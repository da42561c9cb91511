"""The split of a collection over workers, in rows of writer tiles.

All rows of tiles (1024 px of the output) of all planes of all images, in order, are one long list.
Each shard has a contiguous range of it, so that one huge image and 10,000 small ones both split
well. A part is what a shard has of one plane; it becomes a file of its own.

    image a, 5 rows   image b, 2   image c, 3            4 shards:
    | 0  0  0 | 1  1 | 1    2   |  2  3  3 |             a: y0, y3   b: y0, y1   c: y0, y1

Every worker computes the whole split from names and sizes alone, so none has to ask another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from exactile.errors import CollectionError
from exactile.geometry import Box, Interval
from exactile.images import OutputImage, Plane, part_stem
from exactile.images.source import planes_of
from exactile.shard import Shard
from exactile.tiling import WRITER_TILE


@dataclass(frozen=True, slots=True)
class Extent:
    """What the split has to know of an image."""

    output: str
    """Name of its result."""
    size_t: int
    """Number of time points."""
    size_z: int
    """Number of planes in the stack."""
    rows: int
    """Rows of writer tiles in each plane of the result; at least 1."""


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of writer tiles of one plane."""

    name: str
    """Name of its file."""
    plane: Plane
    """The plane of the whole image."""
    rows: Interval
    """Rows of writer tiles, counted from the top of the plane."""
    shard: int
    """Index of the shard that makes it."""

    def region(self, shape: tuple[int, ...]) -> Box:
        """Return the pixels (Y, X) that it has of a plane of `shape`; none if that has not so many.

        >>> Part("", Plane(), Interval(1, 3), 0).region((2500, 700)).shape
        (1476, 700)
        """
        height, width = shape
        rows = Interval(self.rows.start * WRITER_TILE, self.rows.stop * WRITER_TILE)
        return Box((rows & Interval(0, height), Interval(0, width)))

    def image(self, whole: OutputImage) -> OutputImage:
        """Return the description of its file."""
        height, width = self.region(whole.shape).shape
        return replace(whole, shape=(height, width), size_t=1, size_z=1)

    def __str__(self) -> str:
        return f"rows {self.rows.start} to {self.rows.stop} of tiles of {self.plane}"


def split(extents: Sequence[Extent], count: int) -> list[tuple[Part, ...]]:
    """Return for each image its parts, those of all `count` shards, in order.

    Raises:
        CollectionError: if two parts would have one name.
    """
    total = sum(extent.size_t * extent.size_z * extent.rows for extent in extents)
    images, first = [], 0
    owners: dict[str, str] = {}
    for extent in extents:
        parts = _parts_of(extent, first, total, count)
        for part in parts:
            other = owners.setdefault(part.name, extent.output)
            if other != extent.output:
                raise CollectionError(
                    f"parts of {other} and of {extent.output} would both be written to "
                    f"{part.name}: rename one of the images, or split them in separate runs"
                )
        images.append(parts)
        first += extent.size_t * extent.size_z * extent.rows
    return images


def _parts_of(extent: Extent, first: int, total: int, count: int) -> tuple[Part, ...]:
    """Return the parts of an image whose rows are those from `first` on of all `total`."""
    planes = planes_of(extent.size_t, extent.size_z)
    numbered = range(len(planes) * extent.rows)
    parts = []
    for (index, shard), group in groupby(
        numbered, key=lambda row: (row // extent.rows, owner(first + row, total, count))
    ):
        rows = [row % extent.rows for row in group]
        plane = planes[index]
        name = _part_name(extent.output, plane if len(planes) > 1 else None, rows[0])
        parts.append(Part(name, plane, Interval(rows[0], rows[-1] + 1), shard))
    return tuple(parts)


def _part_name(output: str, plane: Plane | None, row: int) -> str:
    """Return the name of a part that begins at `row`, its column being the first.

    >>> _part_name("a.ome.tif", None, 3)
    'a_y00003_x00000.ome.tif'
    """
    stem, suffix = part_stem(output)
    where = "" if plane is None else f"_t{plane.t:05}_z{plane.z:05}"
    return f"{stem}{where}_y{row:05}_x00000{suffix}"


def owner(row: int, total: int, count: int) -> int:
    """Return the index of the shard, of `count`, that has `row` of `total`; see `Shard.part`.

    >>> [owner(row, 7, 3) for row in range(7)]
    [0, 0, 0, 1, 1, 2, 2]
    """
    size, longer = divmod(total, count)
    in_longer = longer * (size + 1)
    return row // (size + 1) if row < in_longer else longer + (row - in_longer) // size


def digest_of_split(extents: Sequence[Extent], shard: Shard) -> str:
    """Return a digest of all that a split depends on: workers whose digests differ do not fit."""
    facts = [[extent.output, extent.size_t, extent.size_z, extent.rows] for extent in extents]
    return hashlib.sha256(json.dumps([shard.count, facts]).encode()).hexdigest()
