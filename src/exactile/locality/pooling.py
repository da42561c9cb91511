"""Pooling over sliding windows, its inverse by indices, and pooling to a given size.

With kernel k, stride s, dilation d and padding a, output position p reads q = p * s - a + i * d
for i in 0 .. k-1, as a convolution does. With `ceil_mode` the last window may reach beyond the
padding, which an average does not count; how many taps do follows from how many lie inside.
Max-unpooling is the transpose of the pooling that made the indices: position p may receive the
value of every q whose window holds p.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from exactile.locality.convolution import transposed_taps, window_taps
from exactile.locality.reach import (
    ABSENT,
    Pooled,
    Positions,
    Reach,
    merge,
    number,
    salted,
    windows,
)
from exactile.locality.refusal import Refused
from exactile.locality.registry import Call, per_axis, rule

INDEXED = ("max_pool2d_with_indices", "max_pool3d_with_indices")
AVERAGES = ("avg_pool1d", "avg_pool2d", "avg_pool3d")
UNINDEXED = ("max_pool1d", "max_pool2d", "max_pool3d")
ADAPTIVE = (
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
)
UNPOOLING = ("max_unpool2d", "max_unpool3d")


def axes_of(operator: str) -> int:
    """Return the number of axes that a pooling operator works on, from its name."""
    return int(operator[operator.index("pool") + 4])


@rule(*AVERAGES, *UNINDEXED, *INDEXED)
def pooling(call: Call) -> Reach | tuple[Reach, ...]:
    """Join the taps of each window; indices reach as far as the values."""
    axes = axes_of(call.operator)
    kernel = per_axis(call["kernel_size"], axes)
    stride = per_axis(call["stride"] or kernel, axes)
    padding = per_axis(call["padding"], axes)
    dilation = per_axis(call.arguments.get("dilation"), axes, 1)
    reach = call.reach("input" if "input" in call.arguments else "self")
    shape = tuple(call.tensors[0].shape)
    for axis in range(axes):
        dim = len(shape) - axes + axis
        taps = window_taps(
            shape[dim],
            call.output.shape[dim],
            kernel[axis],
            stride[axis],
            padding[axis],
            dilation[axis],
        )
        reach = windows(reach, dim, taps)
    salt = number(int(call.salt), kernel, stride, padding, dilation)
    reach = salted(replace(reach, even=(False,) * len(shape)), salt)
    if len(call.outputs) == 1:
        return reach
    return reach, replace(reach, pooled=Pooled(kernel, stride, padding, dilation, shape[-axes:]))


@rule(*UNPOOLING)
def unpooling(call: Call) -> Reach:
    """Join the values whose pooling window holds the position."""
    axes = axes_of(call.operator)
    pooled = call.reaches[call.index(call["indices"])].pooled
    if pooled is None:
        raise Refused(
            "its indices do not come straight from a max-pooling; pass on the indices that "
            "`return_indices=True` gives"
        )
    shape = tuple(call.output.shape)
    pooled = pooled.turned(shape[-axes:])
    if pooled is None:
        raise Refused(
            f"it unpools to {shape[-axes:]} but its indices count in a tensor of another size, "
            "which would move values; pass the pooled tensor's size as output_size"
        )
    indices = replace(call.reaches[call.index(call["indices"])], pooled=None)
    sizes = call.shape("self")
    reach = merge([(call.reach("self"), sizes), (indices, sizes)], len(sizes))
    for axis in range(axes):
        dim = len(shape) - axes + axis
        taps = transposed_taps(
            sizes[dim],
            shape[dim],
            pooled.kernel[axis],
            pooled.stride[axis],
            pooled.padding[axis],
            pooled.dilation[axis],
        )
        reach = windows(reach, dim, taps)
    return salted(replace(reach, even=(False,) * len(shape)), call.salt)


def adaptive_taps(size: int, out: int) -> Positions:
    """Return taps of adaptive pooling: p reads floor(p n / m) up to ceil((p + 1) n / m)."""
    position = np.arange(out, dtype=np.int64)[:, None]
    start = position * size // out
    stop = -(-(position + 1) * size // out)
    taps = start + np.arange(int((stop - start).max()), dtype=np.int64)[None, :]
    return np.where(taps < stop, taps, ABSENT)


@rule(*ADAPTIVE)
def adaptive_pooling(call: Call) -> Reach | tuple[Reach, ...]:
    """Join each window where the ratio of the sizes is the same for every image."""
    axes = axes_of(call.operator)
    reach = call.reach("self")
    sizes, shape = call.shape("self"), tuple(call.output.shape)
    for dim in range(len(shape) - axes, len(shape)):
        if not reach.tracked(dim):
            continue
        if call.earlier is not None and call.earlier_outputs is not None:
            ratio = Fraction(call.earlier[0][dim], call.earlier_outputs[0][dim])
            if ratio != Fraction(sizes[dim], shape[dim]):
                raise Refused(
                    f"it pools an image of any size to {shape[dim]} positions, so its windows "
                    "grow with the image; use a pooling with a fixed kernel and stride",
                    uneven=True,
                )
        reach = windows(reach, dim, adaptive_taps(sizes[dim], shape[dim]))
    reach = salted(replace(reach, even=(False,) * len(shape)), call.salt)
    if len(call.outputs) == 1:
        return reach
    none = Pooled((), (), (), (), ())
    return reach, replace(reach, pooled=none)
