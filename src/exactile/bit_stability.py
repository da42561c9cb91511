"""The check at the start of a run: whether this engine gives the same bits for every window.

A library may sum a convolution in another order when the shape of its input changes, so that the
same region of an image gets other last bits in a window than in a pass over the whole. That cannot
be known from the network; it can be tried. The check runs noise once through a window and once
through a LARGER window in which the same noise lies elsewhere on the F grid, and compares the part
that depends on nothing outside the smaller one:

    larger   +--------------------------+
             |   window  +---------+    |      compared: the window less the halo
             |           | ::::::: |    |
             |           +---------+    |
             +--------------------------+
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from exactile.engine import Engine
from exactile.geometry import Box, Interval, floor_to
from exactile.tiling import STABLE_COARSEST_SIDE, AxisPlan, Plan

LARGEST_SIDE_OVER_F = 2 * STABLE_COARSEST_SIDE
"""A check window need not be longer than this many F: feature maps beyond it behave alike."""


@dataclass(frozen=True, slots=True)
class BitStability:
    """What the check found. Nothing is claimed beyond what was compared."""

    equal: bool
    """All compared logits had the same bits."""
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
    larger: tuple[int, ...]
    """The shape of the window it was compared with."""

    def sentence(self) -> str:
        """Return the finding in words."""
        window = " x ".join(map(str, self.window))
        if not self.compared:
            return f"exact: each image is one window ({window}), which is the whole-image pass"
        larger = " x ".join(map(str, self.larger))
        if self.equal:
            return (
                f"bit-stable: {self.compared:,} logits of a {window} window are the same bits "
                f"inside a {larger} window"
            )
        return (
            f"NOT bit-stable here: {self.different:,} of {self.compared:,} logits of a {window} "
            f"window differ inside a {larger} window, by at most {self.largest_difference:.1e} of "
            f"their standard deviation; {self.labels_different} labels differ"
        )


def check_bit_stability(engine: Engine, tiling: Plan, channels: int) -> BitStability:
    """Compare a window of `tiling` with a larger one around it, on seeded noise.

    Windows that are the whole image are the reference pass itself: nothing is run for them.
    """
    if tiling.count == 1:
        return BitStability(True, 0, 0, 0.0, 0, tiling.window, tiling.window)
    larger = tuple(_larger(axis) for axis in tiling.axes)
    placed = tuple(
        floor_to((big - axis.window) // 2, axis.locality.alignment)
        for big, axis in zip(larger, tiling.axes, strict=True)
    )
    inner = Box(tuple(_own(axis) for axis in tiling.axes))
    noise = np.random.default_rng(0).standard_normal((1, channels, *larger), dtype=np.float32)
    window = Box.of_shape(tiling.window).shift(placed)
    cut = np.ascontiguousarray(noise[window.slices])
    a = engine.logits(cut)[inner.slices]
    b = engine.logits(noise)[inner.shift(placed).slices]
    with torch.inference_mode():
        difference = (a - b).abs()
        return BitStability(
            equal=torch.equal(a, b),
            compared=a.numel(),
            different=int((a != b).sum()),
            largest_difference=float(difference.max() / b.std()) if a.numel() else 0.0,
            labels_different=int((a.argmax(1) != b.argmax(1)).sum()),
            window=tiling.window,
            larger=larger,
        )


def _larger(axis: AxisPlan) -> int:
    """Return a longer side to compare with: the whole extent where that is not far away."""
    step = axis.locality.alignment
    enough = min(2 * axis.window, LARGEST_SIDE_OVER_F * step)
    return min(axis.extent, max(axis.window + 4 * step, enough))


def _own(axis: AxisPlan) -> Interval:
    """Return the part of a window that depends on nothing outside it."""
    if axis.window == axis.extent:
        return Interval(0, axis.window)
    return Interval(axis.locality.halo.low, axis.window - axis.locality.halo.high)
