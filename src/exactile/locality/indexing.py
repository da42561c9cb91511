"""Picking and spreading blocks: index tensors on channels, im2col and col2im.

An index tensor may pick channels, in an order that does not matter here. Along an axis of the image
its values would say where each output looks, and those are not known without running: refused.

im2col lists, for every window position, the values inside the window as channels; col2im adds them
back. Position p of the one reads q = p * s - a + i * d, as a convolution does, and of the other the
transposed; both flatten all window positions into one dimension.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from exactile.locality.convolution import transposed_taps, window_taps
from exactile.locality.reach import Reach, fold, number, salted, windows
from exactile.locality.refusal import Refused
from exactile.locality.registry import Call, per_axis, rule
from exactile.locality.reshaping import reshape


@rule("index_select")
def index_select(call: Call) -> Reach:
    """Pick channels by a constant list."""
    return picked(call, call["dim"] % len(call.shape("self")))


@rule("index")
def index(call: Call) -> Reach:
    """Pick channels by one constant list of one dimension."""
    given = [(dim, tensor) for dim, tensor in enumerate(call["indices"]) if tensor is not None]
    if len(given) != 1 or given[0][1].ndim != 1:
        raise Refused("it indexes with several tensors, or with a mask; use slices")
    return picked(call, given[0][0])


def picked(call: Call, dim: int) -> Reach:
    """Return the reach of a selection along `dim`, which must hold no positions."""
    reach = call.reach("self")
    chosen = [other for other in call.reaches if other is not reach]
    if reach.tracked(dim) or not all(other.constant for other in chosen):
        raise Refused(
            "it picks positions of the image by an index tensor, and where that looks is not "
            "known; use slices"
        )
    even = tuple(flag and d != dim for d, flag in enumerate(reach.even))
    lists = [int(fold(other, range(other.low.ndim)).mark.item()) for other in chosen]
    return salted(replace(reach, even=even), number(int(call.salt), lists))


def positions(call: Call, sizes: tuple[int, int]) -> tuple[int, int]:
    """Return the number of window positions on both axes of an image of `sizes`."""
    kernel, dilation = per_axis(call["kernel_size"], 2), per_axis(call["dilation"], 2)
    padding, stride = per_axis(call["padding"], 2), per_axis(call["stride"], 2)
    counts = [
        (size + 2 * a - d * (k - 1) - 1) // s + 1
        for size, k, d, a, s in zip(sizes, kernel, dilation, padding, stride, strict=True)
    ]
    return counts[0], counts[1]


@rule("im2col")
def im2col(call: Call) -> Reach:
    """Join each window and flatten the window positions."""
    reach, sizes = fold(call.reach("self"), [-3]), call.shape("self")
    kernel, dilation = per_axis(call["kernel_size"], 2), per_axis(call["dilation"], 2)
    padding, stride = per_axis(call["padding"], 2), per_axis(call["stride"], 2)
    counts = positions(call, (sizes[-2], sizes[-1]))
    for axis, dim in enumerate((len(sizes) - 2, len(sizes) - 1)):
        taps = window_taps(
            sizes[dim], counts[axis], kernel[axis], stride[axis], padding[axis], dilation[axis]
        )
        reach = windows(reach, dim, taps)
    uneven = Reach(reach.low, reach.high, reach.mark, (False,) * len(sizes))
    shape = tuple(call.output.shape)
    return salted(reshape(uneven, (*shape[:-1], *counts), shape), call.salt)


@rule("col2im")
def col2im(call: Call) -> Reach:
    """Unflatten the window positions and join those whose window holds the position."""
    kernel, dilation = per_axis(call["kernel_size"], 2), per_axis(call["dilation"], 2)
    padding, stride = per_axis(call["padding"], 2), per_axis(call["stride"], 2)
    shape, sizes = tuple(call.output.shape), call.shape("self")
    counts = positions(call, (shape[-2], shape[-1]))
    if prod(counts) != sizes[-1]:
        raise Refused("its number of windows does not fit its output size")
    reach = fold(reshape(call.reach("self"), sizes, (*sizes[:-1], *counts)), [-3])
    for axis, dim in enumerate((len(shape) - 2, len(shape) - 1)):
        taps = transposed_taps(
            counts[axis], shape[dim], kernel[axis], stride[axis], padding[axis], dilation[axis]
        )
        reach = windows(reach, dim, taps)
    return salted(Reach(reach.low, reach.high, reach.mark, (False,) * len(shape)), call.salt)
