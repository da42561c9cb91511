"""The steps that act on each pixel by itself, in float32.

A pixel gets the same bits whatever array it comes in. IEEE arithmetic gives that for free, the
exponential does not: PyTorch's CPU kernels take another one for the last elements of an array, and
differ there in the last bit (seen in `torch.sigmoid` and `torch.softmax`). numpy's vectors cover
those elements too.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from exactile.processing import (
    After,
    Clip,
    Linear,
    Pointwise,
    Sigmoid,
    Softmax,
    Standardize,
    Threshold,
)

Values = NDArray[np.float32]

BLOCK_VALUES = 2**16
"""So many values go through all steps together: they stay in the core's own memory meanwhile, and
leave that of the machine to the network that runs beside."""


def normalize(pixels: NDArray[Any], steps: tuple[Pointwise, ...]) -> Values:
    """Return `pixels` (C, ...) in float32, after `steps`: a fresh contiguous array.

    The conversion to float32 comes first: integers beyond 2^24 and float64 are rounded by it.
    """
    return apply(steps, pixels)


def normalize_in_place(values: Values, steps: tuple[Pointwise, ...]) -> None:
    """Replace `values` (C, ...), which are pixels as float32 has them, by their normalization."""
    for block in _blocks(values):
        for step in steps:
            _apply_to(block, step)


def apply(steps: tuple[After, ...], pixels: NDArray[Any]) -> Values:
    """Return what `steps`, in their order, make of `pixels` (C, ...): a fresh float32 array."""
    values = np.empty(pixels.shape, np.float32)
    for block, given in zip(_blocks(values), _blocks(pixels), strict=True):
        block[...] = given
        for step in steps:
            _apply_to(block, step)
    return values


def _blocks(pixels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield views (C, ...) of some rows, of one plane where there are several."""
    for rows in _planes(pixels):
        step = max(1, BLOCK_VALUES // max(1, prod(rows.shape[2:]) * len(rows)))
        for start in range(0, rows.shape[1], step):
            yield rows[:, start : start + step]


def _planes(pixels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield views of the planes of a volume (C, Z, Y, X); of anything else, all at once."""
    if pixels.ndim < 4:
        yield pixels
        return
    for z in range(pixels.shape[1]):
        yield pixels[:, z]


def _apply_to(values: Values, step: After) -> None:
    """Replace `values` (C, ...) by what `step` makes of them."""
    match step:
        case Standardize(mean, deviation):
            values -= _by_channel(mean, values)
            values /= _by_channel(deviation, values)
        case Linear(gain, offset):
            values *= _by_channel(gain, values)
            values += _by_channel(offset, values)
        case Clip(low, high):
            if low is not None:
                np.maximum(values, np.float32(low), out=values)
            if high is not None:
                np.minimum(values, np.float32(high), out=values)
        case Threshold(thresholds):
            np.greater(values, _by_channel(thresholds, values), out=values)
        case Sigmoid():
            np.negative(values, out=values)
            _exponential(values)
            values += np.float32(1)
            np.divide(np.float32(1), values, out=values)
        case Softmax():
            _softmax(values)
        case _:
            assert_never(step)


def _by_channel(numbers: tuple[float, ...], values: Values) -> Values:
    """Return `numbers`, one for all channels or one for each, to be combined with (C, ...)."""
    return np.array(numbers, np.float32).reshape((-1,) + (1,) * (values.ndim - 1))


def _exponential(values: Values) -> None:
    """Replace `values` by their exponential, infinity where float32 cannot hold it."""
    with np.errstate(over="ignore"):
        np.exp(values, out=values)


def _softmax(values: Values) -> None:
    """Softmax over the first axis, each sum from the first channel to the last.

    Channel by channel it takes a fifth of the time of numpy's reductions over that axis.
    """
    largest = values[0].copy()
    for channel in values[1:]:
        np.maximum(largest, channel, out=largest)
    values -= largest
    _exponential(values)
    total = values[0].copy()
    for channel in values[1:]:
        total += channel
    values /= total
