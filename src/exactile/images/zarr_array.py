"""An array of a Zarr folder, opened by zarr after its document and its files were looked at."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from exactile.images.metadata import PIXEL_TYPES
from exactile.images.tiff_checks import MAX_SEGMENT_BYTES
from exactile.images.zarr_bounded import bound_array, most_bytes
from exactile.images.zarr_documents import DocumentError
from exactile.images.zarr_keys import Naming, find_chunks
from exactile.images.zarr_nodes import Node

logger = logging.getLogger(__name__)

LONGEST_SIDE = 2**31 - 1
"""Of an array, in pixels."""

MOST_ABSENT = 10**7
"""Files that may be missing; where more are, the metadata are those of another image."""


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array whose files lie where its metadata say."""

    array: zarr.Array[Any]
    folder: Path
    count: int
    """Number of its files, each a chunk or a shard of them."""
    total: int
    """Number of the files that it would have if none was left out."""

    @property
    def step(self) -> tuple[int, ...]:
        """What a file holds, along each axis."""
        return self.array.shards or self.array.chunks

    @property
    def most_file_bytes(self) -> int:
        """More than any file of it can have: what is compressed does not grow to twice its size."""
        return most_bytes(prod(self.step), self.array.dtype.itemsize)


def open_array(node: Node) -> zarr.Array[Any]:
    """Return the array that `node` describes, its shape, chunks and type those of an image.

    Raises DocumentError.
    """
    shape = node.document.get("shape")
    if (
        not isinstance(shape, list)
        or not all(isinstance(side, int) and not isinstance(side, bool) for side in shape)
        or not all(0 <= side <= LONGEST_SIDE for side in shape)
    ):
        raise DocumentError(f"shape {shape!r} is none of an array")
    try:
        store = LocalStore(node.folder, read_only=True)
        array = zarr.open_array(store, mode="r", zarr_format=node.zarr_format)
        steps, name = (array.shards or array.chunks, array.chunks), np.dtype(array.dtype).name
    except Exception as error:  # what zarr and codecs raise for what others wrote is no list
        raise DocumentError(str(error) or type(error).__name__) from error
    if any(len(step) != array.ndim or min(step, default=0) < 1 for step in steps):
        raise DocumentError(f"chunks of {steps[0]} do not fit its shape {array.shape}")
    if name in PIXEL_TYPES and prod(array.chunks) * array.dtype.itemsize > MAX_SEGMENT_BYTES:
        raise DocumentError(
            f"chunks of {array.chunks} {name} can only be decoded whole, and have more than "
            f"{MAX_SEGMENT_BYTES // 2**20} MiB: write it with chunks of 1024 x 1024"
        )
    return array


def look_at_files(path: Path, array: zarr.Array[Any], folder: Path) -> StoredArray:
    """Return `array`, whose files in `folder` lie where its metadata say, or where it then reads.

    Raises DocumentError where they do not, or where there are none.
    """
    steps = zip(array.shape, array.shards or array.chunks, strict=True)
    grid = tuple(-(-side // step) for side, step in steps)
    said = _naming(array)
    found = find_chunks(folder, said, grid)
    if found.odd:
        raise DocumentError(f"its chunk {found.odd} is no file, or a link to what is not there")
    if found.stray:
        raise DocumentError(
            f"there is a chunk {found.stray}, and none of that place in an array of {array.shape}, "
            "so its metadata are not those of its pixels"
        )
    count, total = sum(found.count.values()), prod(grid)
    if not count:
        raise DocumentError(f"it holds no pixels: there is no chunk in {folder}")
    if total - count > MOST_ABSENT:
        raise DocumentError(
            f"{count} of {total} chunks are there, so its metadata are not those of its pixels"
        )
    if set(found.count) != {said}:
        array = _named_otherwise(path, array, said, found.count)
    return StoredArray(bound_array(array), folder, count, total)


def _naming(array: zarr.Array[Any]) -> Naming:
    key = array.metadata.encode_chunk_key((0,) * array.ndim)
    prefix = key[:2] if key.startswith("c") else ""
    return Naming(prefix, key[len(prefix) + 1 : len(prefix) + 2] or "/")


def _named_otherwise(
    path: Path, array: zarr.Array[Any], said: Naming, found: Mapping[Naming, int]
) -> zarr.Array[Any]:
    """Return `array` with the names that its chunks have.

    That is what Zarr 2 was before it could say how they are named. Raises DocumentError else.
    """
    names = ", ".join(sorted(map(str, found)))
    first = next(iter(found))
    other = len(found) == 1 and first in (Naming("", "/"), Naming("", "."))
    if not other or array.metadata.zarr_format != 2:
        raise DocumentError(f"its chunks are named as {names}, where its metadata say {said}")
    logger.warning(
        "%s: its chunks are named as %s, and are read there; its metadata say %s", path, names, said
    )
    separator: Any = first.separator
    metadata = replace(array.metadata, dimension_separator=separator)
    return zarr.Array(zarr.AsyncArray(metadata=metadata, store_path=array.store_path))
