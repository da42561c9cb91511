"""What a run has to do: whole images, or a shard's parts of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exactile.geometry import Locality
from exactile.images.zarr_layout import is_zarr_name
from exactile.inputs import sizes_of_input
from exactile.settings import SegmentSettings
from exactile.shard import Shard
from exactile.shard_files import ShardRecord, forget_shard, write_vectors
from exactile.sharding import Extent, Part, digest_of_split, split
from exactile.tiling import WRITER_TILE

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """One file to be made."""

    path: Path
    """The image."""
    output: Path
    """The result for the whole of it."""
    part: Part | None = None
    """What of the result is made; None for all of it."""

    @property
    def target(self) -> Path:
        """What is written, and certified, under this name: the result, or the part.

        Of a part of an OME-Zarr only its chunks are written, which have names of their own.
        """
        return self.output if self.part is None else self.output.parent / self.part.name


@dataclass(frozen=True)
class ShardWork:
    """All that one shard has to do, and the record of it."""

    works: tuple[Work, ...]
    record: ShardRecord
    """To be written when everything is done."""


def whole_images(outputs: Mapping[Path, Path]) -> tuple[Work, ...]:
    """Return the work of a run that does everything."""
    return tuple(Work(path, output) for path, output in outputs.items())


def work_of_shard(
    settings: SegmentSettings, shard: Shard, outputs: Mapping[Path, Path], locality: Locality
) -> ShardWork:
    """Return the work of `shard`, and write the stitching vectors of its images.

    The size of every image of the collection is read. One that cannot be opened counts as one row:
    whose shard it is, says why.

    Raises:
        CollectionError: if two parts would have one name.
        OutputError: if the vectors cannot be written.
    """
    out_dir = settings.out_dir
    extents = [extent_of(settings, path, output.name, locality) for path, output in outputs.items()]
    works: list[Work] = []
    for (path, output), parts in zip(outputs.items(), split(extents, shard.count), strict=True):
        own = [part for part in parts if part.shard == shard.index]
        if own and not is_zarr_name(output.name):
            write_vectors(out_dir, output.name, parts, shard)
        works += [Work(path, output, part) for part in own]
    forget_shard(out_dir, shard)
    if not works:
        rows = sum(extent.size_t * extent.size_z * extent.rows for extent in extents)
        logger.info(
            "shard %s has nothing to do: there are only %d rows of tiles to share", shard, rows
        )
    names = tuple(work.target.name for work in works)
    record = ShardRecord(shard.index, shard.count, digest_of_split(extents, shard), names)
    return ShardWork(tuple(works), record)


def extent_of(settings: SegmentSettings, path: Path, output: str, locality: Locality) -> Extent:
    """Return planes and rows of the result `output` for the image `path`; no pixel is read."""
    try:
        size_t, size_z, *shape = sizes_of_input(settings, path)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is said when the image is made
        logger.debug("counts as one row: %s", error)
        return Extent(output, 1, 1, 1)
    height = locality.output_shape(tuple(shape))[0]
    return Extent(output, size_t, size_z, max(1, -(-height // WRITER_TILE)))
