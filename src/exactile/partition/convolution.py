"""Convolutions and transposed convolutions of any stride, dilation and padding.

Along a split axis a rank reads what its outputs reach, and zeros beyond the outer border; then the
operator runs without padding. Other axes keep theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from exactile.locality.registry import per_axis
from exactile.partition.align import whole
from exactile.partition.exchange import Want, enter
from exactile.partition.layout import Split, Taps, TransposedTaps
from exactile.partition.refusal import Refused
from exactile.partition.registry import rule
from exactile.partition.tensor import SplitTensor, own_part, wrap
from exactile.partition.windows import Kernel, convolved

Sizes = int | Sequence[int]


def weights(
    input: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[SplitTensor, Tensor, Tensor | None, int]:
    """Return the arguments, weights entered, and the number of spatial axes."""
    if not isinstance(input, SplitTensor) or isinstance(weight, SplitTensor):
        raise Refused("its weights are split; only its input may be")
    axes = weight.dim() - 2
    whole(input, range(input.dim() - axes), "mixes channels")
    bias = None if bias is None else enter(bias, input.mesh, input.axes)
    return input, enter(weight, input.mesh, input.axes), bias, axes


def paddings(padding: Sizes | str, spans: Sequence[int]) -> list[tuple[int, int]]:
    """Return the padding before and after each axis; of an odd one, more lies after."""
    if padding == "same":
        return [((span - 1) // 2, span // 2) for span in spans]
    if isinstance(padding, str):
        return [(0, 0) for _ in spans]
    return [(side, side) for side in per_axis(padding, len(spans))]


@rule("conv1d", "conv2d", "conv3d")
def convolution(
    func: Any,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Fetch what the windows reach, then convolve."""
    image, weight, bias, axes = weights(input, weight, bias)
    strides, dilations = per_axis(stride, axes), per_axis(dilation, axes)
    spans = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    sides = paddings(padding, spans)
    local, layout, mesh = image.local, list(image.splits), image.mesh
    kept = [0] * axes
    empty: list[int] = []
    wants: list[Want] = []
    for axis, (low, high) in enumerate(sides):
        dim = image.dim() - axes + axis
        split = layout[dim]
        if split is None:
            # Only equal sides can be left to the operator.
            kept[axis] = low if low == high else 0
            if low != high:
                local = F.pad(local, (*(0, 0) * (axes - 1 - axis), low, high))
            continue
        taps = Taps(int(weight.shape[2 + axis]), strides[axis], low, dilations[axis])
        target = split.moved(positive(taps.extent(split.extent, high)), taps.place)
        wants.append(Want(dim, split, taps.wanted(split, target)))
        if not own_part(target, mesh).length:
            empty.append(dim)
        layout[dim] = target
    kernel = Kernel(strides, tuple(kept), dilations, groups)
    made = convolved(func, local, weight, bias, kernel, mesh, wants)
    for dim in empty:
        made = made.narrow(dim, 0, 0)
    return wrap(made, layout, mesh)


def positive(extent: int) -> int:
    """Return the extent of an output, which must not be empty as a whole."""
    if extent < 1:
        raise Refused("its window is larger than the whole volume; give a larger volume")
    return extent


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed(
    func: Any,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """Fetch the inputs that write to the part, spread them, and cut the part out."""
    image, weight, bias, axes = weights(input, weight, bias)
    strides, dilations = per_axis(stride, axes), per_axis(dilation, axes)
    sides, extra = list(per_axis(padding, axes)), list(per_axis(output_padding, axes))
    local, layout, mesh = image.local, list(image.splits), image.mesh
    cuts: list[tuple[int, int, int]] = []
    wants: list[Want] = []
    for axis in range(axes):
        dim = image.dim() - axes + axis
        split: Split | None = layout[dim]
        if split is None:
            continue
        taps = TransposedTaps(
            Taps(int(weight.shape[2 + axis]), strides[axis], sides[axis], dilations[axis])
        )
        target = split.moved(positive(taps.extent(split.extent, extra[axis])), taps.place)
        wants.append(Want(dim, split, taps.wanted(split, target)))
        own = own_part(target, mesh)
        cuts.append((dim, taps.skip(own), own.length))
        sides[axis] = extra[axis] = 0
        layout[dim] = target
    kernel = Kernel(strides, tuple(sides), dilations, groups, tuple(extra))
    made = convolved(func, local, weight, bias, kernel, mesh, wants)
    for dim, start, length in cuts:
        made = made.narrow(dim, start, length)
    return wrap(made, layout, mesh)
