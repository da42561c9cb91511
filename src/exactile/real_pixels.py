"""Zones of the image itself, compared with what windows of another place and size give for them.

The proof and the check of bit-stability run on noise; a network may do something else on the pixels
that it is run on. So of the zones with most content some pixels are kept as they were written, and
computed once more at the end, in a window that lies elsewhere and has another size:

    window   +---------------------+
             |  zone ------------+ |      at the corner of the zone that is nearest to the pixel
             |  |        +-------+ |      which deviates most: there the window's halo is least
             |  +--------| kept  | |
             +-----------|-------|-+
                  other  +-------+ .      its middle holds what is kept, and its halo

What differs by more than rounding is an error. What differs by rounding lowers what is claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exactile.bit_stability import BitStability, other_shape
from exactile.engine import Engine, Precision
from exactile.geometry import Box, Interval, ceil_to, floor_to
from exactile.tiling import STABLE_COARSEST_SIDE, AxisPlan, Plan, Tile
from exactile.verification import VerificationError

ZONES = 2
"""Zones of an image that are compared at most."""

SHARE = 100
"""So many times more pixels the image's windows have than those of a further zone."""

KEPT_SIDE = 128
"""Output positions that are compared along an axis, at least where the zone has as many."""

EVERY = 8
"""Every how many pixels a window is looked at for its content."""

ROUNDING: dict[Precision, float] = {"float32": 2e-4, "bfloat16": 0.1}
"""Largest difference of logits, relative to their standard deviation, that rounding explains."""

Compute = Callable[[NDArray[np.float32], Box], NDArray[Any]]
"""Gives what is written (C, ...) for a part of the output of a window (C, ...)."""

Read = Callable[[Box], NDArray[np.float32]]
"""Reads and normalises the pixels (C, ...) of a window."""


@dataclass(frozen=True, slots=True)
class RealPixels:
    """What the comparison on the image's own pixels showed."""

    zones: int
    """How many zones were compared."""
    window: tuple[int, ...]
    """The shape of the other windows."""
    compared: int
    """Values of the output that were compared."""
    different: int
    """How many of them had other bits."""
    largest_difference: float
    """Largest difference of logits, relative to their standard deviation; 0 where none differ."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A part of a zone that is computed once more."""

    read: Read
    tiling: Plan
    tile: Tile
    """The zone, in the window that it is written from."""
    other: Tile
    """The part of it that is kept, in another window."""
    content: float
    """How much the pixels of the window deviate."""
    written: NDArray[Any] | None = None
    """What was written for the part (C, ...)."""


@dataclass
class RealPixelCheck:
    """Chooses the zones while an image is segmented, and compares them at its end."""

    engine: Engine
    """What runs the windows: most engines need long for windows of a new shape."""
    kept: list[Sample] = field(default_factory=list)
    """The samples with most content so far."""

    def look(
        self, tiling: Plan, tile: Tile, pixels: NDArray[np.float32], read: Read
    ) -> Sample | None:
        """Return what is to be kept of a zone with the window `pixels`; None if others have more.

        Where there is one window, there is nothing to compare it with.
        """
        if tiling.count == 1:
            return None
        seen = pixels[(slice(None), *[slice(None, None, EVERY)] * len(tile.window.axes))]
        deviation = np.abs(seen - seen.mean())
        content = float(deviation.mean())
        if len(self.kept) >= ZONES and not content > self.kept[-1].content:
            return None
        peak = np.unravel_index(int(deviation.argmax()), deviation.shape)[1:]
        centre = tuple(
            side.start + int(place) * EVERY
            for side, place in zip(tile.window.axes, peak, strict=True)
        )
        other = other_window(tiling, tile, centre, small=self.engine.name == "eager")
        return None if other is None else Sample(read, tiling, tile, other, content)

    def keep(self, sample: Sample, written: NDArray[Any]) -> None:
        """Keep what was `written` for the zone of `sample`, (C, ...)."""
        part = sample.other.zone.relative_to(sample.tile.zone)
        self.kept.append(replace(sample, written=written[part.slices].copy()))
        self.kept = sorted(self.kept, key=lambda each: -each.content)[:ZONES]

    def compare(self, path: Path, compute: Compute) -> RealPixels | None:
        """Compute the samples once more; None where there are none.

        Raises:
            RuntimeError, MemoryError: if the network cannot be run.
            VerificationError: if a difference is no rounding.
        """
        found = []
        for place, sample in enumerate(self.kept):
            whole = prod(sample.tiling.window) * sample.tiling.count
            if place and whole < SHARE * prod(sample.other.window.shape):
                break
            again = compute(sample.read(sample.other.window), sample.other.crop)
            different = int((again != sample.written).sum())
            largest = self._largest(path, sample) if different else 0.0
            shape = sample.other.window.shape
            found.append(RealPixels(1, shape, again.size, different, largest))
        return together(found)

    def _largest(self, path: Path, sample: Sample) -> float:
        """Return by how much the logits of both windows differ, which must be rounding."""
        part = replace(sample.tile, zone=sample.other.zone)
        first, second = (
            self.engine.logits(sample.read(tile.window)[None])[0][tile.crop.slices].double()
            for tile in (part, sample.other)
        )
        with torch.inference_mode():
            largest = float((first - second).abs().max() / first.std())
        # Written so that NaN, which compares with nothing, is refused.
        if not 0 < largest <= ROUNDING[self.engine.precision]:
            windows = " and ".join(
                f"{' x '.join(map(str, tile.window.shape))} at {tile.window.place}"
                for tile in (part, sample.other)
            )
            raise VerificationError(
                f"{path}: the network gives other results for {sample.other.zone.place} in windows "
                f"of {windows}, by {largest:.1e} of the standard deviation, which is no rounding: "
                "on these pixels it depends on more than was traced and proven, or keeps a state, "
                "so this image cannot be run in tiles by it"
            )
        return largest


def together(records: Iterable[RealPixels]) -> RealPixels | None:
    """Return what several comparisons showed, or None where there were none."""
    found = list(records)
    if not found:
        return None
    return RealPixels(
        zones=sum(one.zones for one in found),
        window=tuple(found[0].window),
        compared=sum(one.compared for one in found),
        different=sum(one.different for one in found),
        largest_difference=max(one.largest_difference for one in found),
    )


def lowered(stability: BitStability, real: RealPixels | None) -> BitStability:
    """Return `stability` with what `real` pixels showed, where that was a difference."""
    if real is None or not real.different:
        return stability
    return replace(
        stability,
        equal=False,
        compared=stability.compared + real.compared,
        different=stability.different + real.different,
        largest_difference=max(stability.largest_difference, real.largest_difference),
    )


def other_window(tiling: Plan, tile: Tile, centre: tuple[int, ...], *, small: bool) -> Tile | None:
    """Return the part of the zone of `tile` towards pixel `centre`, in a window elsewhere.

    A `small` one has another size, which just holds the part, its halo, and enough for its kernels
    to be those of larger windows. Otherwise it has the shape of the check of bit-stability where
    that is smaller than the plan's, else the plan's own.
    """
    ready = other_shape(tiling)
    if prod(ready) >= prod(tiling.window):
        ready = tiling.window
    zones, windows = [], []
    for axis, side, zone, pixel, length in zip(
        tiling.axes, tile.window.axes, tile.zone.axes, centre, ready, strict=True
    ):
        part = _part(axis, zone, pixel)
        longest = _small(axis, part) if small else length
        window = _around(axis, part, longest, side)
        if small and window is not None and _in_step(axis, window, side):
            # At the end of an image the start follows from the length.
            longer = min(longest + axis.locality.alignment, axis.extent)
            window = _around(axis, part, longer, side) or window
        if window is None:
            return None
        zones.append(part)
        windows.append(window)
    if tuple(windows) == tile.window.axes:
        return None
    origin = tuple(a.origin_of(w) for a, w in zip(tiling.axes, windows, strict=True))
    return Tile(Box(tuple(zones)), Box(tuple(windows)), origin)


def _part(axis: AxisPlan, zone: Interval, pixel: int) -> Interval:
    """Return positions of `zone` at that end of it which is nearer to `pixel`.

    There the halo of the zone's own window is least.
    """
    step = axis.locality.step
    length = ceil_to(min(KEPT_SIDE, zone.length), step)
    if 2 * int(pixel * axis.locality.scale) < zone.start + zone.stop:
        return Interval(zone.start, min(zone.start + length, zone.stop))
    return Interval(max(zone.start, floor_to(zone.stop - 1, step) + step - length), zone.stop)


def _small(axis: AxisPlan, part: Interval) -> int:
    """Return the length of a window that just holds `part`, other than the plan's if it can be."""
    located = axis.locality
    periods = -(-part.stop // located.step) - part.start // located.step
    needed = max(periods * located.alignment + located.halo.total, located.pad(located.least))
    room = 2 * located.alignment
    length = max(needed + room, STABLE_COARSEST_SIDE * located.alignment)
    if length >= axis.window:
        length = axis.window + room
    return min(length, axis.extent)


def _in_step(axis: AxisPlan, window: Interval, own: Interval) -> bool:
    """Return whether two windows start an even number of periods apart."""
    return (window.start - own.start) // axis.locality.alignment % 2 == 0


def _around(axis: AxisPlan, part: Interval, length: int, own: Interval) -> Interval | None:
    """Return the window of `length` with `part` and its halo in its middle, or None without any.

    It starts an odd number of periods from the zone's `own` window where it can: a period that is
    twice as long as was found shows then.
    """
    located = axis.locality
    step, alignment = located.step, located.alignment
    first = part.start // step * alignment - located.halo.low
    last = -(-part.stop // step) * alignment + located.halo.high
    least = ceil_to(max(0, min(last, axis.extent) - length), alignment)
    most = min(max(first, 0), axis.extent - length)
    if least > most:
        return None
    start = floor_to((least + most) // 2, alignment)
    if _in_step(axis, Interval(start, start + length), own):
        others = (start - alignment, start + alignment)
        start = next((other for other in others if least <= other <= most), start)
    return Interval(start, start + length)
