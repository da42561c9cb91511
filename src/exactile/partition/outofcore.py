"""A network on a volume whose feature maps fit no memory: part after part, on one device.

The volume is cut into parts as for ranks of a process group. They take turns (`virtual`), and what
the operator at hand does not need rests on a shelf (`paging`). So memory holds what one operator
reads and makes of one part, a few times over, and the shelf holds what one pass over the whole
would have alive. Every voxel of every map is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, prod

import torch
from torch import Tensor, nn

from exactile.errors import PlanError
from exactile.fixed_order import fixed_order
from exactile.geometry import Box, Interval, ceil_to
from exactile.memory.size import format_size
from exactile.partition.layout import even_cuts
from exactile.partition.module import distribute, partition
from exactile.partition.paging import Pager, Paging
from exactile.partition.shelf import Shelf
from exactile.partition.tensor import SplitTensor
from exactile.partition.turns import Turns
from exactile.partition.virtual import VirtualMesh, run_in_turns

STEPS_AT_ONCE = 4
"""The budget holds so many times what the hungriest operator reads and makes of a part: its halos,
copies in other layouts and the library's own buffers are not in that."""

SHARE_AT_HAND = 0.5
"""Share of the budget for what is at hand before an operator runs."""

LEAST_SIDE = 8
"""Parts are not made thinner than this while another axis can be cut: halos are copied."""


@dataclass(frozen=True, slots=True)
class Parts:
    """How a volume is cut; axes in array order."""

    cuts: tuple[tuple[int, ...], ...]
    """For each axis, where parts begin and end, from 0 to the padded extent."""

    @property
    def mesh(self) -> tuple[int, ...]:
        """The number of parts along each axis."""
        return tuple(len(cuts) - 1 for cuts in self.cuts)

    @property
    def count(self) -> int:
        """The number of parts."""
        return prod(self.mesh)

    def describe(self) -> str:
        """Return how many parts there are along each axis, in words."""
        return "one part" if self.count == 1 else f"{' x '.join(map(str, self.mesh))} parts"

    def box(self, coordinate: tuple[int, ...]) -> Box:
        """Return the part at a place of the mesh."""
        sides = zip(self.cuts, coordinate, strict=True)
        return Box(tuple(Interval(cuts[at], cuts[at + 1]) for cuts, at in sides))


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a run in parts took."""

    peak: int
    """Most bytes of feature maps that were at hand at a time."""
    moved: int
    """Bytes put on the shelf and taken from it."""


def choose_parts(
    extent: tuple[int, ...], alignment: tuple[int, ...], step: int, budget: int
) -> Parts:
    """Return the fewest parts of a volume of `extent` with which `budget` bytes do.

    `step` is what the hungriest operator reads and makes of the whole (`memory.step`). The first
    axis is cut first: planes of it lie together in memory and in files. Cuts are on multiples of
    `alignment`.

    Raises:
        PlanError: if the smallest parts are too large.
    """
    wanted = ceil(STEPS_AT_ONCE * step / budget)
    counts = [1] * len(extent)
    for least in (LEAST_SIDE, 1):
        for axis, side in enumerate(extent):
            left = ceil(wanted / (prod(counts) // counts[axis]))
            most = max(1, side // ceil_to(least, alignment[axis]))
            counts[axis] = max(counts[axis], min(left, most))
    if prod(counts) < wanted:
        raise PlanError(
            f"{format_size(budget)} of memory are too little for this network, also in "
            f"{prod(counts)} parts: give at least "
            f"{format_size(ceil(STEPS_AT_ONCE * step / prod(counts)))} by --memory"
        )
    sides = zip(extent, counts, alignment, strict=True)
    return Parts(tuple(even_cuts(side, count, f) for side, count, f in sides))


def run_in_parts(
    network: nn.Module,
    parts: Parts,
    read: Callable[[Box], Tensor],
    write: Callable[[Box, Tensor], None],
    budget: int,
    shelf: Shelf,
) -> Traffic:
    """Run `network`, which must be in evaluation mode, and hand its output on part by part.

    `read` returns the values (N, channels, ...) of a part, on the device of the network; it is
    called once for each part. `write` gets each part of the output, and where in the whole output
    it lies; the tensor is its own. Both are called by threads, one at a time. A CPU computes in a
    fixed order of sums, so the bits do not depend on the parts where nothing is reduced over them.

    Raises:
        NotPartitioned: if an operator has no rule; the message names it.
        PartitionError: if an output is not split as the volume is.
        OutputError: if the shelf's disk refuses.
        Exception: what `read` and `write` raise.
    """
    turns = Turns(parts.count)
    pager = Pager(int(SHARE_AT_HAND * budget), shelf)
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))

    def act(mesh: VirtualMesh) -> None:
        with Paging(pager, turns.check), fixed_order(device):
            # Without a name for it, the part of the image is gone when the network is done with it.
            made = partition(network, mesh).split(
                distribute(read(parts.box(mesh.coordinate)).clone(), mesh)
            )
            box = Box.of_shape(tuple(made.shape))
            if isinstance(made, SplitTensor):
                box, made = made.box, pager.release(made.local)
            else:
                made = pager.release(made)
        write(Box(box.axes[-len(parts.cuts) :]), made)

    with torch.inference_mode():
        run_in_turns(parts.mesh, act, turns)
    return Traffic(pager.peak, pager.moved)
