"""Convolutions of all kinds as convolutions of one kind: oneDNN's, without wide padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import gcd, prod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from exactile.fixed_order.layout import channels_last
from exactile.fixed_order.registry import replaces

aten = torch.ops.aten
FEW_ELEMENTS = 9
CHANNELS_AT_ONCE = {True: 256, False: 32}
"""Input channels that one call to oneDNN adds up, for kernels of few elements and of more."""

MOST_PHASES = 64
"""Transposed convolutions of more phases stay as they are: each is a call, and the one in use,
FCN's of 64 x 64 and stride 32, was equal in every trial and took ten times as long by phases."""


@replaces(aten.convolution.default, aten._convolution.default)
def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    *_: Any,
) -> Any:
    """Convolve `x` (N, C, [Z, Y,] X); one value in `stride` and the like stands for all axes."""
    if not torch._C._has_mkldnn or (
        x.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    ):
        return NotImplemented
    stride, padding, dilation, output_padding = (
        list(v) * (x.ndim - 2) if len(v) == 1 else list(v)
        for v in (stride, padding, dilation, output_padding)
    )
    if transposed and prod(stride) > MOST_PHASES:
        return NotImplemented
    if x.ndim == 3:
        # oneDNN is called for planes and volumes: a line is a plane of one row.
        x, weight = x.unsqueeze(2), weight.unsqueeze(2)
        stride, padding, dilation, output_padding = (
            [neutral, *v]
            for neutral, v in zip(
                (1, 0, 1, 0), (stride, padding, dilation, output_padding), strict=True
            )
        )
        plane = (stride, padding, dilation, transposed, output_padding, groups)
        return _convolution(x, weight, bias, *plane).squeeze(2)
    if transposed:
        return _transposed(x, weight, bias, stride, padding, dilation, output_padding, groups)
    return _one_dnn(x, weight, bias, stride, padding, dilation, groups)


def _one_dnn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """Convolve with oneDNN on channels_last, in a layout and in portions that it adds up alike.

    oneDNN adds in another order in blocks of columns that reach into wide padding, so that is laid
    around `x` beforehand; and where kernel and channels together are large, it cuts the sum into
    portions as the map's size has it, so it is given portions that it need not cut. Kernels of 3
    with padding 1 were equal at every size, and so was each channel convolved by itself.
    """
    usual = all(
        p == 0 or (p == 1 and d == 1 and k == 3)
        for p, d, k in zip(padding, dilation, weight.shape[2:], strict=True)
    )
    depthwise = 1 < groups == x.shape[1]
    if not usual and not depthwise:
        x = pad(x, [p for p in reversed(padding) for _ in range(2)])
        padding = [0] * len(padding)
    portion = CHANNELS_AT_ONCE[prod(weight.shape[2:]) <= FEW_ELEMENTS]
    if groups > 1 or x.dtype != torch.float32:
        # Sums in bfloat16 are rounded once, at their end, and were equal.
        portion = x.shape[1]
    result: Tensor | None = None
    for values, elements in zip(
        torch.split(x, portion, 1), torch.split(weight, portion, 1), strict=True
    ):
        part = aten.mkldnn_convolution(
            *(channels_last(values), channels_last(elements), bias if result is None else None),
            *(padding, stride, dilation, groups),
        )
        result = part if result is None else result.add_(part)
    assert result is not None
    return result


def _transposed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    output_padding: list[int],
    groups: int,
) -> Tensor:
    """Convolve transposed: with oneDNN where no two outputs overlap, else phase by phase."""
    kernel = list(weight.shape[2:])
    if kernel == stride and not any(padding) and not any(output_padding) and max(dilation) == 1:
        result: Tensor = torch.ops.mkldnn._convolution_transpose_pointwise(
            *(channels_last(x), weight, bias, padding, output_padding, stride, dilation, groups),
            *("none", [], ""),
        )
        return result
    shape = [
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, s, p, d, k, o in zip(
            x.shape[2:], stride, padding, dilation, kernel, output_padding, strict=True
        )
    ]
    # (in, out / groups, ...) becomes (out, in / groups, ...), the ordinary convolution's order.
    weight = torch.cat([part.transpose(0, 1) for part in weight.chunk(groups)])
    out = channels_last(x.new_empty((len(x), len(weight), *shape)))
    for phase in product(*map(range, stride)):
        taps = list(map(_taps, phase, kernel, stride, padding, dilation))
        target = out
        for axis, (first, step) in enumerate(zip(phase, stride, strict=True), start=2):
            target = target[(slice(None),) * axis + (slice(first, None, step),)]
        if not all(elements for elements, _, _ in taps):
            target.copy_(torch.zeros(()) if bias is None else bias.view(-1, *[1] * len(shape)))
        elif target.numel():
            part = weight
            margins: list[int] = []
            for axis, (elements, first, spread) in enumerate(taps):
                part = part.index_select(axis + 2, torch.tensor(elements))
                reach = target.shape[axis + 2] + first + spread * (len(elements) - 1)
                margins = [-first, reach - x.shape[axis + 2], *margins]
            surrounded = pad(x, margins) if any(margins) else x
            ones, zeros, spreads = [1] * len(taps), [0] * len(taps), [s for _, _, s in taps]
            target.copy_(_one_dnn(surrounded, part, bias, ones, zeros, spreads, groups))
    return out


def _taps(
    phase: int, kernel: int, stride: int, padding: int, dilation: int
) -> tuple[list[int], int, int]:
    """Return which elements of a kernel make one phase of a transposed convolution's output.

    Output `phase + stride * j` is the sum over the elements of input `j + first + spread * i`.

    >>> [_taps(phase, 3, 2, 1, 1) for phase in (0, 1)]
    [([1], 0, 1), ([2, 0], 0, 1)]
    """
    offsets = {k: phase + padding - k * dilation for k in reversed(range(kernel))}
    elements = [k for k, offset in offsets.items() if offset % stride == 0]
    first = offsets[elements[0]] // stride if elements else 0
    return elements, first, dilation // gcd(dilation, stride)
