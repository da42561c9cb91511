"""From parts of a result to a file: each rank compresses its share, the first puts it together.

A file has rows of tiles of planes, a part has its own box. What a rank writes are rows of tiles,
consecutive ones of all planes of a volume; the pieces of a row come from the ranks that have them:

    parts (2 x 2)           rows of tiles
    +------+------+         +-------------+
    |  0   |   1  |         |      0      |   rank 0 gets the right half from rank 1,
    |      |      |   -->   +-------------+
    +------+------+         |      1      |   rank 1 the left one from rank 0
    |  2   |   3  |         +-------------+
    +------+------+         |      2      |

Row by row, so that beside its part a rank has one row of tiles at a time. Compressed tiles wait in
a file for each rank, in the work folder of the result; all ranks must see the folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exactile.distributed.forward import Parts
from exactile.distributed.team import Team
from exactile.errors import ExactileError
from exactile.geometry import Box, Interval
from exactile.images import OutputImage, Plane
from exactile.images.compression import Form, compress
from exactile.images.grid import cell_count
from exactile.images.spool import PageSpool, Place
from exactile.images.storing_sink import TILE_SIDE, StoringSink
from exactile.images.tile_assembler import TileAssembler
from exactile.images.work_folder import named_errors, work_folder
from exactile.images.zarr_layout import chunk_form, is_zarr_name
from exactile.shard import Shard

Entry = tuple[int, int, int, int, list[list[int]]]
"""A stored tile: T, Z, row and column, and the place of each of its channels in the rank's file."""


class TileFile:
    """The tiles that a rank has compressed of one result."""

    def __init__(self, output: Path, image: OutputImage, rank: int) -> None:
        """Begin the file of `rank` for the result `output`, which `image` describes."""
        self.output = output
        self.image = image
        self.entries: list[Entry] = []
        """What is stored."""
        self._form: Form = chunk_form(image.zarr_version) if is_zarr_name(output.name) else "zlib"
        self._spool = PageSpool(tiles_of(output, rank))

    def add(self, plane: Plane, box: Box, pixels: NDArray[Any]) -> None:
        """Store a whole row of tiles: `pixels` (C, Y, X) at `box`. Raises OutputError."""
        image, spool = self.image, self._spool
        tiles = TileAssembler(image.shape, image.size_c, image.dtype, TILE_SIDE)
        with named_errors(self.output):
            for key, tile in tiles.add(plane, box, pixels):
                places = [
                    spool.append(len(spool.places), compress(channel, self._form))
                    for channel in tile
                ]
                where = [[place.offset, place.length, place.crc32] for place in places]
                self.entries.append((plane.t, plane.z, key.row, key.column, where))


def tiles_of(output: Path, rank: int) -> Path:
    """Return where a rank leaves its tiles of the result `output`."""
    return work_folder(output) / f"rank-{rank:05}"


def write_parts(team: Team, parts: Parts, planes: tuple[Plane, ...], file: TileFile) -> None:
    """Bring `parts` of the result for `planes` into rows of tiles, and store this rank's.

    Raises:
        RankError: if the disk refuses a rank's.
        LostRank: if other ranks end.
    """
    rows = cell_count(file.image.shape, (TILE_SIDE, TILE_SIDE))[0]
    total = len(planes) * rows
    shares = [Shard(rank, team.size).part(total) for rank in range(team.size)]
    failed: list[ExactileError] = []
    for turn in range(max(map(len, shares))):
        units = [share[turn] if turn < len(share) else None for share in shares]
        boxes = [None if u is None else _row_of_tiles(u, rows, file.image.shape) for u in units]
        pixels = _swap(team, parts, boxes)
        mine = boxes[team.rank]
        if mine is None or failed:
            continue
        try:
            file.add(planes[mine.axes[0].start], Box(mine.axes[1:]), pixels)
        except ExactileError as error:
            # The others count on this rank's pieces until all rows are through.
            failed.append(error)
    team.agree(failed[0] if failed else None)


def _row_of_tiles(unit: int, rows: int, shape: tuple[int, int]) -> Box:
    """Return the box (Z, Y, X) of a row of tiles, counted plane after plane."""
    plane, row = divmod(unit, rows)
    across = Interval(row * TILE_SIDE, min((row + 1) * TILE_SIDE, shape[0]))
    return Box((Interval(plane, plane + 1), across, Interval(0, shape[1])))


def _swap(team: Team, parts: Parts, wanted: list[Box | None]) -> NDArray[Any]:
    """Return what this rank wants, (C, Y, X) of one plane, of what all have."""
    own, here = parts.own, parts.boxes[team.rank]
    mine = wanted[team.rank]
    sends, receives = [], []
    for rank, box in enumerate(wanted):
        if rank != team.rank and box is not None and (common := box & here).size:
            piece = np.ascontiguousarray(own[common.relative_to(here).slices])
            sends.append((team.line.ranks[rank], torch.from_numpy(piece.view(np.uint8).ravel())))
    made = np.empty((len(own), *(mine.shape[1:] if mine else (0, 0))), own.dtype)
    arriving = []
    for rank, box in enumerate(parts.boxes):
        if mine is None or not (common := box & mine).size:
            continue
        target = made[Box(common.relative_to(mine).axes[1:]).slices]
        if rank == team.rank:
            target[...] = own[common.relative_to(here).slices][:, 0]
            continue
        buffer = np.empty(target.shape, own.dtype)
        receives.append((team.line.ranks[rank], torch.from_numpy(buffer.view(np.uint8).ravel())))
        arriving.append((target, buffer))
    team.line.swap(sends, receives)()
    for target, buffer in arriving:
        target[...] = buffer
    return made


def adopt_tiles(sink: StoringSink[Any], output: Path, told: list[list[Entry]]) -> None:
    """Hand all tiles, those that each rank told of, to the sink, and remove the ranks' files.

    Raises OutputError.
    """
    for rank, entries in enumerate(told):
        path = tiles_of(output, rank)
        spool = PageSpool(path)
        for t, z, row, column, where in entries:
            spool.places = {number: Place(*place) for number, place in enumerate(where)}
            with named_errors(output):
                data = [spool.read_tile(number) for number in spool.places]
            sink.adopt(Plane(t, z), row, column, data)
        with named_errors(output):
            path.unlink(missing_ok=True)
