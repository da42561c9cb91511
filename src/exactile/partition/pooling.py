"""Pooling over sliding windows, and maxima to a given size."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from exactile.geometry import Interval
from exactile.locality.registry import per_axis
from exactile.partition.align import whole
from exactile.partition.convolution import Sizes, positive
from exactile.partition.exchange import Want, fetch_box
from exactile.partition.extremes import greatest_of
from exactile.partition.layout import Taps
from exactile.partition.reduction import mean
from exactile.partition.refusal import Refused
from exactile.partition.registry import name_of, rule
from exactile.partition.tensor import SplitTensor, own_part, wrap

MAXIMA = ("max_pool1d", "max_pool2d", "max_pool3d")
AVERAGES = ("avg_pool1d", "avg_pool2d", "avg_pool3d")


def axes_of(func: Any) -> int:
    """Return the number of axes that a pooling function works on, from its name."""
    name = name_of(func)
    return int(name[name.index("pool") + 4])


@rule(*MAXIMA)
def max_pool(
    func: Any,
    input: SplitTensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """Fetch what the windows reach, with minus infinity beyond the outer border."""
    if return_indices:
        raise Refused("its indices count places of the whole tensor; use it without indices")
    axes = axes_of(func)
    kernel = per_axis(kernel_size, axes)
    strides = per_axis(stride, axes) if stride else kernel
    sides, dilations = list(per_axis(padding, axes)), per_axis(dilation, axes)
    whole(input, range(input.dim() - axes), "pools beside an axis")
    local, layout, mesh = input.local, list(input.splits), input.mesh
    least = -torch.inf if local.is_floating_point() else torch.iinfo(local.dtype).min
    empty: list[int] = []
    wants: list[Want] = []
    for axis in range(axes):
        dim = input.dim() - axes + axis
        split = layout[dim]
        if split is None:
            continue
        taps = Taps(kernel[axis], strides[axis], sides[axis], dilations[axis])
        extent = positive(taps.extent(split.extent, sides[axis], ceil=ceil_mode))
        layout[dim] = target = split.moved(extent, taps.place)
        wants.append(Want(dim, split, taps.wanted(split, target)))
        sides[axis] = 0
        if not own_part(target, mesh).length:
            empty.append(dim)
    local = fetch_box(local, mesh, wants, least)
    made: Tensor = func(local, kernel, strides, tuple(sides), dilations, ceil_mode)
    for dim in empty:
        made = made.narrow(dim, 0, 0)
    return wrap(made, layout, mesh)


def taps_inside(taps: Taps, own: Interval, low: int, high: int) -> list[int]:
    """Return how many taps of each output in `own` lie from `low` to `high`."""
    firsts = (p * taps.stride - taps.padding for p in range(own.start, own.stop))
    return [min(first + taps.kernel, high) - max(first, low) for first in firsts]


@rule(*AVERAGES, statistic=True)
def average_pool(
    func: Any,
    input: SplitTensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Fetch what the windows reach, add it up, and divide by how many taps count."""
    axes = axes_of(func)
    first = input.dim() - axes
    kernel = per_axis(kernel_size, axes)
    strides = per_axis(stride, axes) if stride else kernel
    sides = per_axis(padding, axes)
    if kernel == input.shape[first:] and not any(sides) and divisor_override is None:
        return mean(torch.mean, input, tuple(range(first, input.dim())), True)
    if not input.axes:
        divisor = [divisor_override] if divisor_override is not None else []
        made = func(input.local, kernel, strides, sides, ceil_mode, count_include_pad, *divisor)
        return wrap(made, input.splits, input.mesh)
    whole(input, range(first), "pools beside an axis")
    local, layout, mesh = input.local, list(input.splits), input.mesh
    counts: list[list[int]] = []
    wants: list[Want] = []
    for axis in range(axes):
        dim, side = first + axis, sides[axis]
        split = layout[dim]
        extent = input.shape[dim]
        taps = Taps(kernel[axis], strides[axis], side, 1)
        many = positive(taps.extent(extent, side, ceil=ceil_mode))
        if split is None:
            own = Interval(0, many)
            beyond = taps.read(own).stop - extent
            pads = [0, 0] * (axes - 1 - axis) + [side, max(beyond, 0)]
            local = F.pad(local, pads)
        else:
            layout[dim] = target = split.moved(many, taps.place)
            own = own_part(target, mesh)
            wants.append(Want(dim, split, taps.wanted(split, target)))
        low, high = (-side, extent + side) if count_include_pad else (0, extent)
        counts.append(taps_inside(taps, own, low, high))
    local = fetch_box(local, mesh, wants)
    if divisor_override is None and all(
        n == k for k, c in zip(kernel, counts, strict=True) for n in c
    ):
        made = func(local, kernel, strides)
    else:
        made = _sums(func, local, kernel, strides)
        for axis, count in enumerate(counts):
            made = made.narrow(first + axis, 0, len(count))
        made = made / (divisor_override or _product(counts, made))
    for axis, count in enumerate(counts):
        made = made.narrow(first + axis, 0, len(count))
    return wrap(made, layout, mesh)


def _sums(func: Any, local: Tensor, kernel: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    if len(kernel) == 1:
        # That of one axis takes no divisor.
        flat = F.avg_pool2d(local.unsqueeze(-2), (1, *kernel), (1, *strides), divisor_override=1)
        return flat.squeeze(-2)
    made: Tensor = func(local, kernel, strides, divisor_override=1)
    return made


def _product(counts: list[list[int]], like: Tensor) -> Tensor:
    """Return the product of the counts of all axes for each position."""
    made = like.new_ones(())
    for axis, count in enumerate(reversed(counts)):
        made = made * like.new_tensor(count).reshape(-1, *(1,) * axis)
    return made


def sizes_of_pool(input: SplitTensor, output_size: Any, axes: int) -> list[int]:
    """Return the size that each axis is pooled to; one that is left out stays."""
    given = output_size if isinstance(output_size, Sequence) else (output_size,) * axes
    sides = input.shape[input.dim() - axes :]
    return [side if want is None else int(want) for side, want in zip(sides, given, strict=True)]


def equal_windows(input: SplitTensor, sizes: list[int], axes: int) -> tuple[int, ...]:
    """Return the window that pools to `sizes`, where it is the same everywhere."""
    sides = input.shape[input.dim() - axes :]
    if any(side % size for side, size in zip(sides, sizes, strict=True)):
        raise Refused(
            f"it pools {tuple(sides)} to {tuple(sizes)} positions, so its windows are unequal; "
            "pool to 1, or to a divisor of the extent"
        )
    return tuple(side // size for side, size in zip(sides, sizes, strict=True))


@rule("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_maximum(
    func: Any, input: SplitTensor, size: Any, return_indices: bool = False
) -> Tensor:
    """Take the maximum over space over all ranks, or pool with a window that divides it."""
    axes = axes_of(func)
    sizes = sizes_of_pool(input, size, axes)
    if return_indices:
        raise Refused("its indices count places of the whole tensor; use it without indices")
    if prod(sizes) == 1:
        return greatest_of(input, tuple(range(-axes, 0)), keepdim=True, first=True)
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[axes]
    return max_pool(pool, input, equal_windows(input, sizes, axes))
