"""Tiled passes against the pass over the whole image, as the papers measure them.

Zones and windows are exactile's own, with a halo that is GIVEN and may be too small: a zone is what
the halo leaves of a window, and windows at an edge are moved inwards (in the papers they end there,
and so are smaller).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exactile.engine import Engine
from exactile.geometry import AxisLocality, Box, Halo, Interval
from exactile.report.progress import Watcher
from exactile.tiling import AxisPlan, Plan

Forward = Callable[[NDArray[Any]], Tensor]
"""From a window (channels, Y, X) to its logits (classes, Y, X)."""


@dataclass(frozen=True, slots=True)
class Errors:
    """What differs between two outputs, summed over parts."""

    pixels: int = 0
    values: int = 0
    """Pixels times classes."""
    squares: float = 0.0
    """Sum of the squared differences of the softmax outputs, in float64."""
    largest: float = 0.0
    """Largest difference of the softmax outputs."""
    misclassified: int = 0
    """ME: pixels with another label."""
    different: int = 0
    """Logits with other bits."""

    @classmethod
    def between(cls, tiled: Tensor, whole: Tensor) -> Errors:
        """Return the errors of logits `tiled` (classes, Y, X) against `whole`."""
        with torch.inference_mode():
            # Both in one layout: the softmax of equal logits is then equal.
            tiled, whole = tiled.contiguous(), whole.contiguous()
            difference = (torch.softmax(tiled, 0) - torch.softmax(whole, 0)).double()
            return cls(
                pixels=tiled[0].numel(),
                values=tiled.numel(),
                squares=float(difference.square().sum()),
                largest=float(difference.abs().max()),
                misclassified=int((tiled.argmax(0) != whole.argmax(0)).sum()),
                different=int((tiled != whole).sum()),
            )

    def __add__(self, other: Errors) -> Errors:
        return Errors(
            self.pixels + other.pixels,
            self.values + other.values,
            self.squares + other.squares,
            max(self.largest, other.largest),
            self.misclassified + other.misclassified,
            self.different + other.different,
        )

    @property
    def rmse(self) -> float:
        """Root mean square error over the softmax output: exactly 0 if no value differs."""
        return sqrt(self.squares / self.values)

    @property
    def mer(self) -> float:
        """Misclassification error rate."""
        return self.misclassified / self.pixels


@dataclass(frozen=True, slots=True)
class Seconds:
    """What forward passes take."""

    wall: float = 0.0
    processor: float = 0.0
    """Of all threads of this process: other work on the machine adds little to it."""

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.processor + other.processor)


def single(engine: Engine) -> Forward:
    """Return the pass of `engine`, in its own precision."""
    return lambda window: engine.logits(window[None])[0]


def double(engine: Engine) -> Forward:
    """Return the pass of the engine's network in float64."""
    network = deepcopy(engine.network).double()

    def forward(window: NDArray[Any]) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = network(torch.from_numpy(window[None]).to(engine.device).double())[0]
            return logits

    return forward


def plan_with(shape: tuple[int, int], tile: int, alignment: int, halo: Halo) -> Plan:
    """Return the plan for `shape` whose zones are what `halo` leaves of windows of `tile` pixels.

    An axis not longer than a window is one zone.
    """
    locality = AxisLocality(alignment, halo)
    axes = []
    for side in shape:
        if side % alignment or tile % alignment:
            raise ValueError(f"{side} and {tile} px are not both multiples of F = {alignment}")
        window = min(side, tile)
        zone = side if window == side else window - halo.total
        axes.append(AxisPlan(extent=side, window=window, zone=zone, kept=side, locality=locality))
    return Plan(shape, tuple(axes))


def timed(forward: Forward, window: NDArray[Any]) -> tuple[Tensor, Seconds]:
    """Return the logits of `window` and the time that they took."""
    wall, processor = time.perf_counter(), time.process_time()
    logits = forward(window)
    if logits.is_cuda:
        torch.cuda.synchronize(logits.device)
    return logits, Seconds(time.perf_counter() - wall, time.process_time() - processor)


def tiled_errors(
    forward: Forward, image: NDArray[np.float32], whole: Tensor, plan: Plan, watcher: Watcher
) -> tuple[Errors, Seconds]:
    """Return the errors of the tiled passes over `image`, and the time of the passes alone."""
    errors, seconds = Errors(), Seconds()
    for tile in plan.tiles():
        window = np.ascontiguousarray(image[tile.window.slices])
        logits, took = timed(forward, window)
        seconds += took
        errors += Errors.between(logits[tile.crop.slices], whole[tile.zone.slices])
        watcher.advance(tile.window.size)
    return errors, seconds


def offset_errors(
    forward: Forward, image: NDArray[np.float32], side: int, offsets: range, inset: int
) -> Iterator[Errors]:
    """Yield for each offset the errors of the part of `image` that starts there on both axes.

    Against the part that starts at 0; parts have `side` pixels a side and are compared where they
    overlap, less `inset` pixels on all sides.
    """
    base = forward(_part(image, 0, side))
    for offset in offsets:
        other = forward(_part(image, offset, side))
        common = Interval(offset + inset, side - inset)
        box = Box((common, common))
        yield Errors.between(other[box.shift((-offset, -offset)).slices], base[box.slices])


def _part(image: NDArray[np.float32], offset: int, side: int) -> NDArray[np.float32]:
    inside = slice(offset, offset + side)
    return np.ascontiguousarray(image[:, inside, inside])


def reached_from_beyond(
    forward: Forward, image: NDArray[np.float32], zone: Box, halo: tuple[Halo, ...]
) -> int:
    """Return how many positions of `zone` depend on pixels beyond its halo.

    All those pixels are made NaN: whatever depends on one, however weakly, becomes NaN too.
    """
    known = Box(tuple(axis.grow(h) for axis, h in zip(zone.axes, halo, strict=True)))
    known &= Box.of_shape(image.shape[1:])
    poisoned = np.full_like(image, np.nan)
    poisoned[known.slices] = image[known.slices]
    return int(forward(poisoned)[zone.slices].isnan().any(0).sum())
