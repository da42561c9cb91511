"""The check at the start of a run: whether this engine gives the same bits for every window.

A library may sum a convolution in another order when the shape of its input changes, so that the
same region of an image gets other last bits in a window than in a pass over the whole. That cannot
be known from the network alone; it can be tried, for operators whose order is known at all
(`exactile.known_order`). The check runs noise once through a window of the plan
and once through a window of ANOTHER SIZE, in which the same noise lies elsewhere on the F grid, and
compares the part that depends on nothing outside the smaller of the two:

    larger   +--------------------------+
             |   smaller +---------+    |      compared: the smaller one less the halo
             |           | ::::::: |    |
             |           +---------+    |
             +--------------------------+
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from exactile.engine import Engine
from exactile.geometry import Box, Interval, floor_to
from exactile.known_order import unknown_order
from exactile.tiling import STABLE_COARSEST_SIDE, AxisPlan, Plan

AMPLE_PIXELS = 512 * 512
"""A window is compared with one of half its side, which costs little, if that one still has as many
pixels, and a coarsest feature map that is not small either. Otherwise with a larger one: windows
below that may go through other kernels, on which the run does not depend."""


@dataclass(frozen=True, slots=True)
class BitStability:
    """What the check found. Nothing is claimed beyond what was compared."""

    equal: bool
    """Bits may be claimed: all compared logits had the same, and every operator is known to
    compute alike in windows of other sizes."""
    compared: int
    """Number of logits compared; 0 where the window is the whole image."""
    different: int
    """How many of them differ."""
    largest_difference: float
    """Largest absolute difference, relative to the standard deviation of the logits."""
    labels_different: int
    """How many labels differ."""
    window: tuple[int, ...]
    """The window's shape."""
    other: tuple[int, ...]
    """The shape of the window it was compared with."""
    unknown: tuple[str, ...] = ()
    """Operators that are not known to compute alike in windows of other sizes."""

    @property
    def agrees(self) -> bool:
        """Whether all compared logits had the same bits, be the operators known or not."""
        return not self.different

    def sentence(self) -> str:
        """Return the finding in words."""
        window = " x ".join(map(str, self.window))
        if not self.compared:
            return f"exact: each image is one window ({window}), which is the whole-image pass"
        other = " x ".join(map(str, self.other))
        if self.agrees:
            same = f"{self.compared:,} logits have the same bits in windows of {window} and {other}"
            if self.equal:
                return f"bit-stable: {same}"
            return (
                f"equal to rounding: {same}, but whether {', '.join(self.unknown)} compute alike "
                "in windows of all sizes is not known"
            )
        return (
            f"NOT bit-stable here: {self.different:,} of {self.compared:,} logits differ between "
            f"windows of {window} and of {other}, by at most {self.largest_difference:.1e} of "
            f"their standard deviation; {self.labels_different} labels differ"
        )


def check_bit_stability(engine: Engine, tiling: Plan, channels: int) -> BitStability:
    """Compare a window of `tiling` with a window of another size, on seeded noise.

    Windows that are the whole image are the reference pass itself: nothing is run for them.
    """
    if tiling.count == 1:
        return BitStability(True, 0, 0, 0.0, 0, tiling.window, tiling.window)
    other = other_shape(tiling)
    small, large = sorted((tiling.window, other), key=prod)
    place = Box(
        tuple(
            Interval(start, start + length)
            for axis, length, longer in zip(tiling.axes, small, large, strict=True)
            for start in [floor_to((longer - length) // 2, axis.locality.alignment)]
        )
    )
    own = Box(tuple(_own(axis, length) for axis, length in zip(tiling.axes, small, strict=True)))
    origin = tuple(a.origin_of(side) for a, side in zip(tiling.axes, place.axes, strict=True))
    noise = np.random.default_rng(0).standard_normal((1, channels, *large), dtype=np.float32)
    windows = {small: np.ascontiguousarray(noise[place.slices]), large: noise}
    # The plan's own window last: an engine that keeps what it has made ready goes on with it.
    found = {shape: engine.logits(windows[shape]) for shape in (other, tiling.window)}
    a, b = found[small][own.slices], found[large][own.shift(origin).slices]
    unknown = unknown_order(engine.name, engine.network, channels, tiling.window)
    with torch.inference_mode():
        different = int((a != b).sum())
        return BitStability(
            equal=not different and not unknown,
            compared=a.numel(),
            different=different,
            # Logits that are all alike have no deviation, and equal ones need none.
            largest_difference=float((a - b).abs().max() / b.std()) if different else 0.0,
            labels_different=int((a.argmax(1) != b.argmax(1)).sum()),
            window=tiling.window,
            other=other,
            unknown=unknown,
        )


def other_shape(tiling: Plan) -> tuple[int, ...]:
    """Return half the window where that is ample, else a larger one."""
    halves = tuple(_half(axis) for axis in tiling.axes)
    sides = list(zip(tiling.axes, halves, strict=True))
    coarsest = prod(half // axis.locality.alignment for axis, half in sides)
    ample = prod(halves) >= AMPLE_PIXELS and coarsest >= STABLE_COARSEST_SIDE**2
    if ample and all(
        _own(axis, half).length and half >= axis.locality.least for axis, half in sides
    ):
        return halves
    return tuple(_larger(axis) for axis in tiling.axes)


def _half(axis: AxisPlan) -> int:
    if axis.window == axis.extent:
        return axis.extent
    return floor_to(axis.window // 2, axis.locality.alignment)


def _larger(axis: AxisPlan) -> int:
    """Return a longer side: the whole extent where that is not far away."""
    step = axis.locality.alignment
    enough = min(2 * axis.window, 2 * STABLE_COARSEST_SIDE * step)
    return min(axis.extent, max(axis.window + 4 * step, enough))


def _own(axis: AxisPlan, length: int) -> Interval:
    """Return the part of the output for `length` pixels that depends on nothing outside them."""
    locality = axis.locality
    if axis.window == axis.extent:
        return Interval(0, locality.output_length(length))
    low, high = locality.halo.low, length - locality.halo.high
    return Interval(int(low * locality.scale), int(max(low, high) * locality.scale))


def weaker(first: BitStability, second: BitStability) -> BitStability:
    """Return the one of two findings that promises less."""
    return max(
        first, second, key=lambda s: (not s.equal, not s.agrees, s.largest_difference, s.compared)
    )
