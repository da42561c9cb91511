"""Convolutions: strided, dilated, grouped, transposed; on any number of axes.

With kernel k, stride s, dilation d and padding a, output position p of a convolution reads

    q = p * s - a + i * d        for i in 0 .. k-1

and that of a transposed convolution reads every q with q * s = p + a - i * d for some i: the taps
that fall between two input positions do not exist. `output_padding` only lengthens the output.
Taps outside the input are padding. All channels are joined, so groups make no difference.
"""

from __future__ import annotations

import numpy as np

from exactile.locality.reach import (
    ABSENT,
    PADDING,
    Positions,
    Reach,
    fold,
    number,
    salted,
    windows,
)
from exactile.locality.refusal import Refused
from exactile.locality.registry import Call, per_axis, rule


def window_taps(
    size: int, out: int, kernel: int, stride: int, padding: int, dilation: int
) -> Positions:
    """Return taps (out, kernel) of a sliding window over `size` positions."""
    position = np.arange(out, dtype=np.int64)[:, None]
    taps = position * stride - padding + np.arange(kernel, dtype=np.int64)[None, :] * dilation
    return np.where((taps >= 0) & (taps < size), taps, PADDING)


def transposed_taps(
    size: int, out: int, kernel: int, stride: int, padding: int, dilation: int
) -> Positions:
    """Return taps (out, kernel) of a transposed window over `size` positions."""
    position = np.arange(out, dtype=np.int64)[:, None]
    reached = position + padding - np.arange(kernel, dtype=np.int64)[None, :] * dilation
    taps = reached // stride
    inside = np.where((taps >= 0) & (taps < size), taps, PADDING)
    return np.where(reached % stride == 0, inside, ABSENT)


@rule("convolution", "_convolution")
def convolution(call: Call) -> Reach:
    """Join the taps along each spatial axis, and all channels."""
    weight = call.reach("weight")
    if weight.positional or not weight.constant:
        raise Refused(
            "its weights are computed from the image, so every output depends on all that they "
            "depend on; use weights that do not depend on the input"
        )
    axes = len(call.shape("weight")) - 2
    strides = per_axis(call["stride"], axes)
    paddings = per_axis(call["padding"], axes)
    dilations = per_axis(call["dilation"], axes)
    place = transposed_taps if call["transposed"] else window_taps
    reach = fold(call.reach("input"), [1])
    for axis in range(axes):
        dim = 2 + axis
        taps = place(
            call.shape("input")[dim],
            call.output.shape[dim],
            call.shape("weight")[dim],
            strides[axis],
            paddings[axis],
            dilations[axis],
        )
        reach = windows(reach, dim, taps)
    salt = number(int(call.salt), strides, paddings, dilations)
    return salted(Reach(reach.low, reach.high, reach.mark, (False,) * reach.low.ndim), salt)
