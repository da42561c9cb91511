"""What a shard leaves beside its parts, in outDir/exactile: its record, and stitching vectors.

    exactile/shards/00002-of-00007.json                      written last, when all parts are there
    exactile/vectors/<image>/img-global-positions-0.txt      where the parts of a plane lie
    exactile/chunks/<image>.partial/0/...                    the parts themselves, of an OME-Zarr

The vectors speak of the parts of all shards. Every shard that has one of an image writes the same
bytes, so it does not matter who is the last. Nothing here depends on the time or on the machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from pydantic import TypeAdapter

from exactile.errors import OutputError
from exactile.geometry import Interval
from exactile.images import OutputImage, Plane
from exactile.images.chunk_rows import ChunkRows
from exactile.images.links import fresh, is_plain_name, make_own_folder
from exactile.shard import Shard
from exactile.sharding import Part
from exactile.stored_json import MalformedError, checked, read_json
from exactile.tiling import WRITER_TILE

FOLDER = "exactile"
"""The sub-folder of the output folder for what is neither an image nor a certificate."""

SHARDS = Path(FOLDER, "shards")
VECTORS = Path(FOLDER, "vectors")
CHUNKS = Path(FOLDER, "chunks")


@dataclass(frozen=True)
class ShardRecord:
    """What one shard has done; it is there only when all of its parts are."""

    index: int
    """Which shard, from 0."""
    count: int
    """How many there are."""
    split: str
    """Digest of what the split depends on; see `digest_of_split`."""
    parts: tuple[str, ...]
    """Names of the files that it made; none where there are more shards than rows of tiles."""

    @classmethod
    def read(cls, path: Path) -> ShardRecord:
        """Return the record in the file `path`. Raises OSError or MalformedError."""
        record = checked(_RECORD, read_json(path))
        if not 0 <= record.index < record.count:
            raise MalformedError(f"there is no shard {record.index} of {record.count}")
        if strange := [name for name in record.parts if not is_plain_name(name)]:
            raise MalformedError(f"{strange[0]!r} is not the name of a file")
        return record

    def write(self, out_dir: Path) -> Path:
        """Write the record into its sub-folder of `out_dir`. Raises OutputError."""
        path = out_dir / SHARDS / f"{self.index:05}-of-{self.count:05}.json"
        _write(out_dir, path, json.dumps(asdict(self), indent=2) + "\n", self.index)
        return path


_RECORD = TypeAdapter(ShardRecord)


def forget_shard(out_dir: Path, shard: Shard) -> None:
    """Remove the record of an earlier run of `shard`: its parts may be made again."""
    with suppress(FileNotFoundError):
        (out_dir / SHARDS / f"{shard.index:05}-of-{shard.count:05}.json").unlink()


def chunk_rows(
    out_dir: Path, output: str, image: OutputImage, plane: Plane, rows: Interval
) -> ChunkRows:
    """Return where the chunks of a part lie, `rows` of a `plane` of the OME-Zarr `output`.

    `image` describes the whole of it. Raises OutputError where links stand in the way.
    """
    chunks = ChunkRows(out_dir / CHUNKS / f"{output}.partial", image, plane, rows)
    chunks.refuse_links(out_dir)
    return chunks


def write_vectors(out_dir: Path, output: str, parts: Sequence[Part], shard: Shard) -> None:
    """Write where the parts of the image `output` lie: a vector for each plane, numbered from 0.

    Raises OutputError.
    """
    planes = groupby(parts, key=lambda part: part.plane)
    for number, (_, group) in enumerate(planes):
        path = out_dir / VECTORS / output / f"img-global-positions-{number}.txt"
        _write(out_dir, path, "".join(_lines(group)), shard.index)


def _lines(parts: Iterator[Part]) -> Iterator[str]:
    for part in parts:
        row = part.rows.start
        yield (
            f"file: {part.name}; corr: 0; position: (0, {row * WRITER_TILE}); grid: (0, {row});\n"
        )


def _write(out_dir: Path, path: Path, text: str, index: int) -> None:
    """Write a file at once, by way of one that no other shard writes."""
    partial = path.with_name(f".{path.name}.{index}.partial")
    try:
        make_own_folder(path.parent, out_dir)
        # Names of files need not be UTF-8; in a vector they have the bytes that they are.
        fresh(partial).write_text(text, encoding="utf-8", errors="surrogateescape")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); make room or permit writing in --outDir"
        ) from error
