"""Zones that are run a second time, in a larger window, while the image is segmented.

window   +-----------------+
larger   +---|---------|-------+      what was written for the zone must be what the larger
             |  zone   |              window gives for it, bit for bit
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.errors import ExactileError
from exactile.geometry import Box, Interval
from exactile.tiling import AxisPlan, Plan, Tile

MARGIN = 2
"""Periods F by which a window is longer on each side, where the image has them."""


class VerificationError(ExactileError):
    """A zone came out otherwise in a larger window; the message names image and zone."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What running zones again showed."""

    zones: int
    """How many were run again."""
    compared: int
    """Values of the output that were compared."""
    different: int
    """How many of them had other bits."""
    largest_difference: float
    """Largest absolute difference."""


@dataclass
class Verifier:
    """Chooses zones of an image to be run again, and keeps count of what differs.

    Zones are numbered in the order in which they are read, over all planes of the image.
    """

    tiling: Plan
    chosen: frozenset[int]
    """Numbers of the zones that are run again."""
    exact: bool
    """The check of bit-stability found equal bits, so a difference is an error."""
    seen: int = 0
    found: list[Verification] = field(default_factory=list)

    def again(self, tile: Tile) -> Tile | None:
        """Return `tile`, the next to be read, in a larger window if it is one of the chosen."""
        self.seen += 1
        return enlarged(tile, self.tiling) if self.seen - 1 in self.chosen else None

    def compare(self, path: Path, tile: Tile, first: NDArray[Any], again: NDArray[Any]) -> None:
        """Compare what both windows give for the zone of `tile`, (C, ...).

        Raises:
            VerificationError: if the bits differ though the run claims that they do not.
        """
        different = int((first != again).sum())
        difference = np.abs(first.astype(np.float64) - again).max()
        self.found.append(Verification(1, again.size, different, float(difference)))
        if different and self.exact:
            raise VerificationError(
                f"{path}: {different:,} of {again.size:,} values of zone {tile.zone.place} "
                f"differ, by at most {difference:.1e}, in a larger window; "
                "the network is not bit-stable here: use a larger --tileSize, or bfloat16"
            )

    def result(self) -> Verification | None:
        """Return what was found in all zones together; None where none was run again."""
        if not self.found:
            return None
        return Verification(
            zones=len(self.found),
            compared=sum(one.compared for one in self.found),
            different=sum(one.different for one in self.found),
            largest_difference=max(one.largest_difference for one in self.found),
        )


def choose_zones(total: int, wanted: int, seed: str) -> frozenset[int]:
    """Return the numbers of `wanted` zones of `total`, drawn by chance but the same for a seed."""
    return frozenset(random.Random(seed).sample(range(total), min(wanted, total)))


def enlarged(tile: Tile, tiling: Plan) -> Tile:
    """Return the same zone with a window that is longer by MARGIN periods on every side."""
    sides = tuple(
        _longer(axis, side) for axis, side in zip(tiling.axes, tile.window.axes, strict=True)
    )
    origin = tuple(a.origin_of(side) for a, side in zip(tiling.axes, sides, strict=True))
    return Tile(tile.zone, Box(sides), origin)


def _longer(axis: AxisPlan, side: Interval) -> Interval:
    margin = MARGIN * axis.locality.alignment
    return Interval(max(0, side.start - margin), min(axis.extent, side.stop + margin))
