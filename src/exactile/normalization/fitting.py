"""Fills in the numbers of normalisation steps that need statistics of the whole image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.images.source import Source, Whole
from exactile.normalization.blocks import Pixels, pixels_of, pixels_of_array
from exactile.normalization.gathering import Nothing, Pass, Reader
from exactile.normalization.percentiles import percentiles
from exactile.normalization.sums import (
    ChannelFloats,
    ChannelIntegers,
    channel_floats,
    channel_integers,
)
from exactile.processing import Before, Measured, Pointwise, ScaleRange, Standardize


def fit(
    steps: tuple[Before, ...], source: Source, whole: Whole, channels: tuple[int, ...]
) -> tuple[Pointwise, ...]:
    """Return `steps` with the numbers measured on `channels` of a plane or a volume of `source`.

    A measured step becomes a `Standardize` with one mean and one deviation for each channel, or one
    for all. It is measured on what the steps before it make of the image, so each takes passes of
    its own over the whole: one for a z-score or the extremes, for percentiles one up to 16 bits,
    two up to 32, four for float64. Where no step is measured, floating pixels are still gone
    through once, to refuse early what is not finite.

    Raises:
        ImageError: if pixels are NaN, infinite or too large, before or after a step, or if they
            cannot be read.
    """
    pixels = pixels_of(source, whole, channels)
    return fit_by(steps, pixels, lambda wanted: wanted.over(pixels))


def fit_array(
    steps: tuple[Before, ...], pixels: NDArray[Any], chunk: tuple[int, ...] | None = None
) -> tuple[Pointwise, ...]:
    """Return `steps` with the numbers measured on finite `pixels` (C, ...) in memory.

    They are those that `fit` measures on a file of these pixels; for the z-score of floating pixels
    only if `chunk` (...) is the file's, else up to rounding in float64.
    """
    whole = pixels_of_array(pixels, chunk)
    return fit_by(steps, whole, lambda wanted: wanted.over(whole))


def fit_by(steps: tuple[Before, ...], pixels: Pixels, read: Reader) -> tuple[Pointwise, ...]:
    """Return `steps` with the numbers of `pixels`, about which `read` says what passes find.

    The passes and their order follow from the steps, the type of the pixels, and what the passes
    before have found. Raises what `read` raises.
    """
    if pixels.dtype.kind == "f" and not any(isinstance(step, Measured) for step in steps):
        read(Pass((), False, Nothing()))
    fitted: tuple[Pointwise, ...] = ()
    for step in steps:
        if isinstance(step, Measured):
            step = _measure(step, fitted, pixels, read)
        fitted = (*fitted, step)
    return fitted


def _measure(
    step: Measured, before: tuple[Pointwise, ...], pixels: Pixels, read: Reader
) -> Standardize:
    """Return the step with the numbers of `pixels`, as the steps `before` it left them."""
    together = step.scope == "image"
    pixels = pixels.after(before)
    if together:
        pixels = pixels.together()
    if isinstance(step, ScaleRange):
        pairs = percentiles(
            lambda gather: read(Pass(before, together, gather)), pixels, (step.low, step.high)
        )
        return Standardize(
            mean=tuple(low for low, _ in pairs),
            deviation=tuple(_divisor(high - low + step.epsilon) for low, high in pairs),
        )
    statistics = (
        channel_floats(read(Pass(before, together, ChannelFloats())))
        if pixels.dtype.kind == "f"
        else channel_integers(read(Pass(before, together, ChannelIntegers())))
    )
    return Standardize(
        mean=tuple(s.mean for s in statistics),
        deviation=tuple(
            1.0
            if step.least is not None and s.deviation <= step.least
            else _divisor(s.deviation + step.epsilon)
            for s in statistics
        ),
    )


def _divisor(spread: float) -> float:
    """Return `spread`, or 1 where float32 holds it as zero: such pixels are all equal there."""
    return spread if np.float32(spread) != 0 else 1.0
