"""Resampling to another size: nearest, (bi-, tri-)linear and bicubic.

With n input and m output positions and r = n / m, the centre of output position p lies at

    nearest            floor(p * r)
    nearest-exact      floor((p + 1/2) * r)
    linear             c = (p + 1/2) * r - 1/2, taps floor(c) and floor(c) + 1
    cubic              taps floor(c) - 1 .. floor(c) + 2

Linear clamps c at 0 and cubic clamps each tap to the image; a tap with weight 0 counts, since
0 * NaN is NaN. `align_corners=True` makes r = (n - 1) / (m - 1), which changes with the image.

With antialias=True each output averages what lies within max(1, r) of its centre, of cubic
resampling 2 max(1, r); weights beyond the image fall to the others.

The kernels compute c in floating point. For r with a power of two as denominator that is exact at
every position. For another r, linear and cubic taps get one position of slack where c is whole,
and nearest is simulated in float32 far beyond any image: where it strays, it is refused.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from exactile.locality.reach import ABSENT, PADDING, Positions, Reach, number, salted, windows
from exactile.locality.refusal import Refused
from exactile.locality.registry import Call, rule

NEAREST = ("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
EXACT = ("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d")
LINEAR = ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")
CUBIC = ("upsample_bicubic2d",)
ANTIALIASED = {"_upsample_bilinear2d_aa": 1, "_upsample_bicubic2d_aa": 2}
"""How far each reaches, in positions of the input or of the output, whichever are further apart."""
FAR = 1 << 20
"""Positions for which the kernel's rounding is simulated."""


def ratio(call: Call, dim: int, scale: float | None) -> Fraction:
    """Return input positions for each output position; raise `Refused` where it varies."""
    sizes = call.shape("self")[dim], int(call.output.shape[dim])
    exact = Fraction(*sizes)
    if call.earlier is not None and call.earlier_outputs is not None:
        before = Fraction(call.earlier[0][dim], call.earlier_outputs[0][dim])
        if before != exact:
            raise Refused(
                f"it resizes by {float(1 / before):.6g} or by {float(1 / exact):.6g}, as the "
                "image's size has it; use a constant scale or the size of a feature map",
                uneven=True,
            )
    if scale is not None and abs(scale * exact - 1) > 1e-6:
        raise Refused(
            f"its scale {scale:.6g} is not the ratio of its sizes, {float(1 / exact):.6g}, so it "
            "drifts along the image; use recompute_scale_factor=True or a scale without remainder",
            uneven=True,
        )
    return exact


def is_dyadic(value: Fraction) -> bool:
    """Whether arithmetic with `value` is exact in binary floating point."""
    return value.denominator & (value.denominator - 1) == 0


def scale_of(call: Call, axis: int, axes: int) -> float | None:
    """Return the scale that was given for `axis`, where one was."""
    names = ("scales_d", "scales_h", "scales_w")[3 - axes :] if axes > 1 else ("scales",)
    value = call.arguments.get(names[axis])
    return None if value is None else float(value)


def nearest_taps(size: int, out: int, step: Fraction, *, exact: bool) -> Positions:
    """Return taps (out, 1) of nearest-neighbour resampling."""
    position = np.arange(out, dtype=np.int64)
    if exact:
        index = (2 * position + 1) * step.numerator // (2 * step.denominator)
    else:
        index = position * step.numerator // step.denominator
    return np.minimum(index, size - 1)[:, None]


def strays(step: Fraction) -> bool:
    """Whether float32 arithmetic ever picks another neighbour than exact arithmetic."""
    position = np.arange(FAR, dtype=np.int64)
    computed = np.floor(position.astype(np.float32) * np.float32(float(step))).astype(np.int64)
    return bool((computed != position * step.numerator // step.denominator).any())


def smooth_taps(size: int, out: int, step: Fraction, *, cubic: bool) -> Positions:
    """Return taps of linear (2, or 3 with slack) or cubic (4, or 5) interpolation."""
    position = np.arange(out, dtype=np.int64)[:, None]
    doubled = (2 * position + 1) * step.numerator - step.denominator
    unit = 2 * step.denominator
    slack = 0 if is_dyadic(step) else 1
    first = (doubled - slack) // unit
    if not cubic:
        # The kernel clamps the centre itself, so the first position reads 0 and 1.
        first = np.maximum(first, 0)
    reach_back, count = (1, 4) if cubic else (0, 2)
    taps = first - reach_back + np.arange(count + slack, dtype=np.int64)[None, :]
    return np.where((taps >= 0) & (taps < size), taps, PADDING)


def antialiased_taps(size: int, out: int, step: Fraction, reach: int) -> Positions:
    """Return taps of antialiased interpolation, with a position of slack where it is inexact."""
    centre = (2 * np.arange(out, dtype=np.int64)[:, None] + 1) * step.numerator + step.denominator
    support = 2 * reach * max(step.numerator, step.denominator)
    slack = 0 if is_dyadic(step) else 1
    first = (centre - support) // (2 * step.denominator) - slack
    stop = (centre + support) // (2 * step.denominator) + slack
    taps = first + np.arange(int((stop - first).max()), dtype=np.int64)[None, :]
    return np.where(taps >= stop, ABSENT, np.where((taps >= 0) & (taps < size), taps, PADDING))


def resample(call: Call, kind: str, axes: int, reach_of: int = 0) -> Reach:
    """Join the taps of each axis."""
    reach = call.reach("self")
    if call.arguments.get("align_corners"):
        raise Refused(
            "align_corners=True makes its step depend on the image's size; use "
            "align_corners=False and train again"
        )
    sizes, shape = call.shape("self"), tuple(call.output.shape)
    for axis in range(axes):
        dim = len(shape) - axes + axis
        if not reach.tracked(dim):
            continue
        step = ratio(call, dim, scale_of(call, axis, axes))
        if step == 1 and not reach_of:
            continue
        if kind == "nearest" and not is_dyadic(step) and strays(step):
            raise Refused(
                f"nearest by {float(1 / step):.6g} rounds differently from place to place; use a "
                "whole scale or nearest-exact",
                uneven=True,
            )
        if reach_of:
            taps = antialiased_taps(sizes[dim], shape[dim], step, reach_of)
        elif kind in ("nearest", "exact"):
            taps = nearest_taps(sizes[dim], shape[dim], step, exact=kind == "exact")
        else:
            taps = smooth_taps(sizes[dim], shape[dim], step, cubic=kind == "cubic")
        reach = windows(reach, dim, taps)
    resized = [Fraction(old, new) for old, new in zip(sizes, shape, strict=True)]
    return salted(replace(reach, even=(False,) * len(shape)), number(int(call.salt), resized))


def register(kind: str, operators: tuple[str, ...]) -> None:
    """Register `operators`, named after the number of their axes, for one kind of resampling."""
    for operator in operators:
        axes = int(operator[-2])

        @rule(operator)
        def resampling(call: Call, axes: int = axes) -> Reach:
            return resample(call, kind, axes)


register("nearest", NEAREST)
register("exact", EXACT)
register("linear", LINEAR)
register("cubic", CUBIC)


@rule(*ANTIALIASED)
def antialiased(call: Call) -> Reach:
    """Join what each output averages."""
    return resample(call, "antialiased", 2, ANTIALIASED[call.operator.removeprefix("aten.")])
