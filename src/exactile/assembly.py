"""From parts to whole images: the bytes of a run without shards, in bounded memory.

The pixels of each part go, tile by tile, through the sink that a run without shards writes to. A
part ends where tiles end, so each tile is what that run would have compressed. Chunks of an
OME-Zarr are taken as they are; its levels and its metadata are made here. Every part's digest is
compared with its certificate before it is read. What a killed run has stored is gone on with.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from exactile.assembly_record import certificate_of_whole
from exactile.certificate import written_beside
from exactile.errors import CollectionError
from exactile.failures import explain
from exactile.finished import is_finished
from exactile.images import Plane, open_sink, open_source
from exactile.images.chunk_rows import ChunkRows
from exactile.images.digest import FileDigest
from exactile.images.journal import Journal, remove_leftovers
from exactile.images.storing_sink import StoringSink
from exactile.outputs import make_folder
from exactile.parts import AssemblyError, StoredPart, find_parts
from exactile.probe import probe
from exactile.stored_json import MalformedError

logger = logging.getLogger(__name__)

USED_HERE = ("exactile", "bfio", "tifffile", "imagecodecs", "zarr")
"""What reads parts and writes images; another version may write other bytes."""


@dataclass(frozen=True)
class Assembled:
    """How one image went."""

    name: str
    """Name of the whole."""
    parts: int
    """How many parts it has."""
    nbytes: int
    """Size of all its pixels, in bytes."""
    seconds: float
    finished_before: bool
    """Whether there was nothing to do."""
    error: str
    """Empty, or why the image failed."""


def assemble_collection(inp_dir: Path, out_dir: Path) -> Iterator[Assembled]:
    """Put the images together whose parts are in `inp_dir`, and yield how each went.

    Raises:
        AssemblyError: if parts are missing, or do not fit; nothing is written then.
        CollectionError: if results would be written among the parts.
        OutputError: if `out_dir` cannot be written to.
    """
    images = find_parts(inp_dir)
    among_parts = out_dir.resolve() in {path.resolve() for path in (inp_dir, inp_dir / "images")}
    if among_parts and any(parts[0].chunks is None for parts in images.values()):
        raise CollectionError(
            f"--outDir {out_dir} is the folder of the parts: the images would be taken for parts; "
            "choose another folder"
        )
    _check_versions(images)
    make_folder(out_dir)
    probe(out_dir)
    for name, parts in images.items():
        begun, finished, error = time.monotonic(), False, ""
        try:
            finished = not assemble_image(out_dir / name, parts)
        except Exception as raised:  # noqa: BLE001 - whatever it is, it is this image's failure
            error = f"{name}: {explain(raised)}"
        yield Assembled(
            name, len(parts), parts[0].image.nbytes, time.monotonic() - begun, finished, error
        )


def assemble_image(output: Path, parts: tuple[StoredPart, ...]) -> bool:
    """Write `output` and its certificate from all its `parts`; return False if it was there.

    Raises:
        AssemblyError: if a part is not what its certificate speaks of.
        ExactileError: if anything else stands in the way; nothing is under the final name then.
    """
    begun = time.monotonic()
    first = parts[0]
    identity = first.identity_of_whole
    if is_finished(output, identity):
        remove_leftovers(output)
        return False
    threads = torch.get_num_threads()
    with (
        Journal(output, identity | {"the parts": _digest(parts)}) as journal,
        open_sink(output, first.image, threads, journal) as sink,
    ):
        for stored in parts:
            if not sink.has(stored.part.plane, stored.part.region(first.image.shape)):
                copy_part(stored, sink, threads)
        file = sink.assemble()
        try:
            content = certificate_of_whole(parts, file, time.monotonic() - begun)
        except (OSError, MalformedError) as error:
            raise AssemblyError(
                f"the certificates of its parts were changed, or cannot be read ({error}); "
                "copy them again"
            ) from error
        _warn_of_other_windows(content)
        with written_beside(output, content):
            sink.close()
    return True


def copy_part(stored: StoredPart, sink: StoringSink[Any], threads: int) -> None:
    """Write a part to where it belongs in the whole image.

    Raises:
        AssemblyError: if its file is not what its certificate speaks of.
        ImageError: if it cannot be read.
        OutputError: if the sink cannot be written.
    """
    path, part, chunks = stored.path, stored.part, stored.chunks
    try:
        file = FileDigest.of(path) if chunks is None else chunks.digest()
    except OSError as error:
        raise AssemblyError(f"{path}: cannot be read ({error.strerror})") from error
    if file != stored.file:
        raise AssemblyError(
            f"{path}: is damaged, or another part than its certificate speaks of; copy it again, "
            f"or run shard {part.shard} again"
        )
    if chunks is not None:
        _copy_chunks(chunks, sink)
        return
    region, expected = part.region(stored.image.shape), part.image(stored.image)
    with open_source(path, cache_bytes=0, threads=threads) as source:  # all is read once
        sizes = (source.size_t, source.size_c, source.size_z, *source.shape)
        if (sizes, source.dtype) != (expected.dimensions, expected.dtype):
            raise AssemblyError(
                f"{path}: is {sizes} {source.dtype}, where {part} of {stored.output} is "
                f"{expected.dimensions} {expected.dtype}; run shard {part.shard} again"
            )
        for box, pixels in source.read_all(Plane(), tuple(range(source.size_c))):
            sink.write(part.plane, box.shift(region.start), pixels)


def _copy_chunks(chunks: ChunkRows, sink: StoringSink[Any]) -> None:
    """Hand the chunks to the sink as they are; they were seen to be intact."""
    for row in range(chunks.rows.start, chunks.rows.stop):
        for column in range(chunks.columns):
            paths = [chunks.path(channel, row, column) for channel in range(chunks.whole.size_c)]
            try:
                data = [path.read_bytes() for path in paths]
            except OSError as error:
                raise AssemblyError(f"{error.filename}: {error.strerror}") from error
            sink.adopt(chunks.plane, row, column, data)


def _check_versions(images: dict[str, tuple[StoredPart, ...]]) -> None:
    first = next((parts[0] for parts in images.values()), None)
    if first is None:
        return
    for name in USED_HERE:
        there, here = first.identity.get(f"the version of {name}"), version(name)
        if there != here:
            raise AssemblyError(
                f"the parts were made with {name} {there}, and here is {here}, which may write "
                "other bytes: assemble with the installation, or the container, of the shards"
            )


def _warn_of_other_windows(content: Mapping[str, Any]) -> None:
    """Say that the bits may differ from those of one run, where they may."""
    ways = {(part["engine"], *part["window"]) for part in content["parts"]}
    if len(ways) > 1 and not content["bit_stability"]["equal"]:
        logger.warning(
            "%s: its parts were run in windows of other sizes, or on other engines, that are not "
            "all bit-stable: last bits may differ from those of a run without shards; give "
            "--tileSize and --engine to the shards",
            content["output"],
        )


def _digest(parts: tuple[StoredPart, ...]) -> str:
    digests = "".join(stored.file.sha256 for stored in parts)
    return hashlib.sha256(digests.encode()).hexdigest()
