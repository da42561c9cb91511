"""One plane or volume through the network on all ranks: each reads its part, and makes it.

Nothing is recomputed, and no rank ever holds more than its part and its halos: see
`exactile.partition`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exactile.distributed.arrangement import Arrangement
from exactile.distributed.team import Team
from exactile.engine import DTYPES
from exactile.engines.eager import EagerEngine, placed
from exactile.finishing import OutputType, finish
from exactile.fixed_order import fixed_order
from exactile.geometry import PLANES, Box, Interval
from exactile.models.model import Model
from exactile.partition import Mesh, SplitTensor, distribute, partition
from exactile.pipeline import Normalized


@dataclass(frozen=True)
class Parts:
    """A result of which each rank has its part."""

    own: NDArray[Any]
    """What this rank has (C, Z, Y, X): one plane has Z of 1."""
    boxes: tuple[Box, ...]
    """Where the part of each rank lies in the output (Z, Y, X), in the order of ranks."""


@dataclass(frozen=True)
class Exchanged:
    """What the ranks received of each other, besides sums."""

    received: int = 0
    """Bytes."""
    messages: int = 0

    def __add__(self, other: Exchanged) -> Exchanged:
        return Exchanged(self.received + other.received, self.messages + other.messages)


def run_whole(
    team: Team,
    engine: EagerEngine,
    model: Model,
    arrangement: Arrangement,
    image: Normalized,
    output_type: OutputType,
) -> tuple[Parts, Exchanged]:
    """Return what is written for `image`, and what this rank received for it.

    Raises:
        RankError: if a rank cannot read its part.
        NotPartitioned: if an operator of the network has no rule.
        LostRank: if other ranks end.
        RuntimeError, MemoryError: if the network cannot be run on this rank.
    """
    mesh = team.mesh(arrangement.mesh)
    box = arrangement.part(mesh.coordinate)

    def read() -> NDArray[np.float32]:
        # With more ranks than multiples of F, some have nothing.
        return image.read(box) if box.size else np.empty((model.channels, *box.shape), np.float32)

    pixels = team.together(read)
    mesh.journal.exchanges.clear()
    with torch.no_grad(), fixed_order(engine.device):
        x = placed(pixels[None], engine.device, DTYPES[engine.precision])
        del pixels
        made = partition(engine.network, mesh).split(distribute(x, mesh))
        del x
        # Where the output lies beyond the image is known on every rank.
        kept = Box.of_shape(model.locality.output_shape(image.source.shape_of(model.dimensions)))
        boxes = tuple(_box(made, mesh, rank) & kept for rank in range(team.size))
        inside = boxes[mesh.rank].relative_to(_box(made, mesh, mesh.rank))
        local = made.local if isinstance(made, SplitTensor) else made
        output = local[0][inside.slices].to(torch.float32, memory_format=torch.contiguous_format)
        del made, local
        own = finish(output, output_type, model.finishing)
    if model.dimensions == PLANES:
        own = own[:, None]
        boxes = tuple(Box((Interval(0, 1), *each.axes)) for each in boxes)
    entries = mesh.journal.exchanges
    return Parts(own, boxes), Exchanged(
        sum(entry.received for entry in entries), sum(entry.messages for entry in entries)
    )


def _box(made: torch.Tensor, mesh: Mesh, rank: int) -> Box:
    """Return what a rank has of the output, as far as it is not cut off yet."""
    splits = made.splits if isinstance(made, SplitTensor) else (None,) * made.dim()
    place = mesh.coordinate_of(rank)
    return Box(
        tuple(
            Interval(0, side) if split is None else split.parts[place[split.axis]]
            for side, split in list(zip(made.shape, splits, strict=True))[2:]
        )
    )
