"""Resizing with `interpolate`: nearest and linear, to any size.

Which positions an output reads, and with what weights, is computed as PyTorch's kernels do for the
whole tensor, in their precision. A factor that is a power of two has the same weights anywhere, so
the kernel itself runs on the part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from exactile.geometry import Interval
from exactile.partition.adaptive import adaptive_average
from exactile.partition.align import whole
from exactile.partition.exchange import fetch
from exactile.partition.layout import Split, Wanted
from exactile.partition.refusal import Refused
from exactile.partition.registry import rule
from exactile.partition.tensor import SplitTensor, own_part, wrap

NEAREST = ("nearest", "nearest-exact")
LINEAR = ("linear", "bilinear", "trilinear")


@dataclass(frozen=True, slots=True)
class Resizing:
    """How one axis is resized."""

    side: int
    """Input positions."""
    size: int
    """Output positions."""
    factor: float | None
    """The scale factor that the kernels use, where one was given."""
    mode: str
    """As `interpolate` has it."""
    corners: bool
    """Whether the first and last positions of input and output lie upon each other."""
    precise: bool
    """Whether the kernels compute positions in float64."""

    @property
    def simple(self) -> int | None:
        """The factor, where it is a power of two and weights are the same anywhere."""
        factor, left = divmod(self.size, self.side)
        given = self.factor is None or self.factor == factor
        power = factor > 0 and factor & (factor - 1) == 0
        return factor if power and not left and given and not self.corners else None

    def sources(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
        """Return for each output the two inputs that it lies between, and the second's weight."""
        real: Any = np.float64 if self.precise and self.mode in LINEAR else np.float32
        places = np.arange(self.size).astype(real)
        ratio = real(1 / self.factor) if self.factor else real(self.side) / real(self.size)
        half = real(0.5)
        if self.mode == "nearest":
            at = places * ratio
        elif self.mode == "nearest-exact":
            at = (places + half) * ratio
        elif self.corners:
            steps = real(max(self.size - 1, 1))
            at = places * (real(self.side - 1) / steps if self.size > 1 else real(0))
        else:
            at = (ratio * (places + half) - half).clip(0)
        low = np.minimum(np.floor(at).astype(np.int64), self.side - 1)
        if self.mode in NEAREST:
            return low, low, np.zeros(self.size, real)
        high = np.minimum(low + 1, self.side - 1)
        return low, high, (at - low.astype(real)).clip(0, 1)

    def place(self, cut: int) -> int:
        """Return the output position at input position `cut`."""
        return (2 * cut * self.size + self.side) // (2 * self.side)


def resizings(
    input: SplitTensor,
    axes: int,
    size: Any,
    scale_factor: Any,
    mode: str,
    corners: bool,
    recompute: bool,
) -> list[Resizing]:
    """Return how each axis is resized."""
    sides = input.shape[2:]
    precise = input.dtype == torch.float64
    made = []
    for axis, side in enumerate(sides):
        factor: float | None = None
        if scale_factor is not None:
            factor = float(
                scale_factor[axis] if isinstance(scale_factor, Sequence) else scale_factor
            )
            out = floor(side * factor)
        if size is not None:
            out = int(size[axis] if isinstance(size, Sequence) else size)
        kept = None if recompute else factor
        made.append(Resizing(side, out, kept, mode, corners, precise))
    return made


@rule("interpolate")
def interpolate(
    func: Any,
    input: SplitTensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Fetch what the outputs of the part lie between, then resize."""
    if antialias:
        raise Refused("it resizes with antialias=True, which has no rule; use antialias=False")
    recompute = bool(recompute_scale_factor)
    return resized(input, size, scale_factor, mode, bool(align_corners), recompute)


def resized(
    input: SplitTensor,
    size: Any,
    scale_factor: Any,
    mode: str,
    corners: bool,
    recompute: bool = False,
) -> Tensor:
    """Resize to a size, by factors, or to a size by positions of factors."""
    axes = input.dim() - 2
    whole(input, range(2), "resizes beside an axis")
    ways = resizings(input, axes, size, scale_factor, mode, corners, recompute)
    if mode == "area":
        pool = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[axes - 1]
        return adaptive_average(pool, input, [way.size for way in ways])
    if mode not in NEAREST + LINEAR:
        raise Refused(f"mode {mode} has no rule; use nearest or linear")
    if all(way.simple for way in ways):
        return _by_kernel(input, ways)
    local, layout = input.local, list(input.splits)
    for axis, way in enumerate(ways):
        local, layout[2 + axis] = _by_weights(local, 2 + axis, layout[2 + axis], way, input)
    return wrap(local, layout, input.mesh)


def _by_kernel(input: SplitTensor, ways: Sequence[Resizing]) -> Tensor:
    local, layout, mesh = input.local, list(input.splits), input.mesh
    cuts = []
    for dim, way in enumerate(ways, 2):
        split, factor = layout[dim], way.simple
        if split is None or factor is None:
            continue
        low, high, _ = way.sources()
        target = split.moved(way.size, way.place)
        # The kernel needs a position to run on, also where no output is wanted.
        wanted = [_read(low, high, own) if own.length else Wanted((), 1) for own in target.parts]
        local = fetch(local, dim, mesh, split, wanted)
        own = own_part(target, mesh)
        start = own.start - int(low[own.start]) * factor if own.length else 0
        cuts.append((dim, start, own.length))
        layout[dim] = target
    mode, corners = ways[0].mode, None if ways[0].mode in NEAREST else False
    factors = [float(way.simple or 1) for way in ways]
    made = F.interpolate(local, scale_factor=factors, mode=mode, align_corners=corners)
    for dim, start, length in cuts:
        made = made.narrow(dim, start, length)
    return wrap(made, layout, mesh)


def _read(low: NDArray[np.int64], high: NDArray[np.int64], own: Interval) -> Wanted:
    """Return all inputs that the outputs `own` lie between."""
    if not own.length:
        return Wanted(())
    return Wanted((Interval(int(low[own.start]), int(high[own.stop - 1]) + 1),))


def _by_weights(
    local: Tensor, dim: int, split: Split | None, way: Resizing, input: SplitTensor
) -> tuple[Tensor, Split | None]:
    """Resize one axis by its own positions and weights."""
    mesh = input.mesh
    low, high, weight = way.sources()
    own, start, target = Interval(0, way.size), 0, None
    if split is not None:
        target = split.moved(way.size, way.place)
        wanted = [_read(low, high, part) for part in target.parts]
        local = fetch(local, dim, mesh, split, wanted)
        own = own_part(target, mesh)
        start = int(low[own.start]) if own.length else 0

    def taken(places: NDArray[np.int64]) -> Tensor:
        index = torch.from_numpy(places[own.start : own.stop] - start).to(local.device)
        return local.index_select(dim, index)

    if way.mode in NEAREST:
        return taken(low), target
    second = torch.from_numpy(weight[own.start : own.stop]).to(local.device)
    second = second.reshape(-1, *(1,) * (local.dim() - 1 - dim))
    made = taken(low) * (1 - second) + taken(high) * second
    return made.to(local.dtype), target
