"""Linear and cubic resampling with positions in whole numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from exactile.fixed_order.layout import channels_last
from exactile.fixed_order.registry import replaces

aten = torch.ops.aten
CUBIC = -0.75
"""PyTorch's coefficient of cubic convolution interpolation (Keys 1981)."""


def _resampled(x: Tensor, sizes: Sequence[int], scales: Iterable[Any], *, cubic: bool) -> Any:
    """Resample the last axes of `x` to `sizes`, one after another."""
    lengths = x.shape[2:]
    steps = [Fraction(n, size) for n, size in zip(lengths, sizes, strict=True)]
    for step, scale in zip(steps, scales, strict=True):
        if scale is not None and abs(float(scale * step) - 1) > 1e-6:
            return NotImplemented
    if all(step.denominator & (step.denominator - 1) == 0 for step in steps):
        if cubic or x.ndim == 3:
            return NotImplemented
        if x.shape[1] > 3:
            kernel = aten.upsample_bilinear2d if x.ndim == 4 else aten.upsample_trilinear3d
            return kernel.default(channels_last(x), list(sizes), False, *scales)
    result = channels_last(x.float())
    for axis, (size, step) in enumerate(zip(sizes, steps, strict=True), start=2):
        if step != 1:
            result = _interpolate(result, axis, size, step, cubic=cubic)
    return result.to(x.dtype)


def _interpolate(x: Tensor, axis: int, size: int, step: Fraction, *, cubic: bool) -> Tensor:
    """Return `size` positions along one axis, `step` input positions apart.

    Centre p lies at (2 p + 1) * step / 2 - 1 / 2: in whole numbers, so that the weights of two
    positions a period apart are equal. Products are rounded before they are added; a fused
    operation would depend on the loop.
    """
    unit = 2 * step.denominator
    centre = (2 * torch.arange(size) + 1) * step.numerator - step.denominator
    if not cubic:
        centre.clamp_(min=0)
    first = centre.div(unit, rounding_mode="floor")
    t = (centre - first * unit).double() / unit
    result: Tensor | None = None
    for offset, weight in _cubic(t).items() if cubic else ((0, 1 - t), (1, t)):
        index = (first + offset).clamp(0, x.shape[axis] - 1)
        tap = x.movedim(1, -1).index_select(axis - 1, index).movedim(-1, 1)
        tap.mul_(weight.float().view(-1, *[1] * (x.ndim - 1 - axis)))
        result = tap if result is None else result.add_(tap)
    assert result is not None
    return result


def _cubic(t: Tensor) -> dict[int, Tensor]:
    """Return the weight of each tap for centres `t` (0 to 1) after the tap 0."""

    def near(d: Tensor) -> Tensor:
        return ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1

    def far(d: Tensor) -> Tensor:
        return ((d - 5) * d + 8) * d * CUBIC - 4 * CUBIC

    return {-1: far(t + 1), 0: near(t), 1: near(1 - t), 2: far(2 - t)}


@replaces(
    aten.upsample_linear1d.default,
    aten.upsample_bilinear2d.default,
    aten.upsample_trilinear3d.default,
)
def _linear_resampling(
    x: Tensor, sizes: Sequence[int], align_corners: bool, *scales: float | None
) -> Any:
    given = [*scales, *[None] * (len(sizes) - len(scales))]
    return NotImplemented if align_corners else _resampled(x, sizes, given, cubic=False)


@replaces(aten.upsample_bicubic2d.default)
def _cubic_resampling(
    x: Tensor, sizes: Sequence[int], align_corners: bool, *scales: float | None
) -> Any:
    given = [*scales, *[None] * (len(sizes) - len(scales))]
    return NotImplemented if align_corners else _resampled(x, sizes, given, cubic=True)
