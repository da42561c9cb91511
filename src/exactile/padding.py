"""Reflect padding at the end of each axis, by index: no padded image is ever made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.geometry import Interval


def reflect(positions: Interval, size: int) -> NDArray[np.int64]:
    """Return the pixel that stands at each of `positions` of an axis of `size` pixels.

    Beyond the end the axis is mirrored about its last pixel, and about its first one again, as
    often as needed: `numpy.pad(..., mode="reflect")`. A single pixel repeats.

    >>> reflect(Interval(0, 8), 3).tolist()
    [0, 1, 2, 1, 0, 1, 2, 1]
    """
    index = np.arange(positions.start, positions.stop)
    if size == 1:
        return np.zeros_like(index)
    index %= 2 * (size - 1)
    return np.minimum(index, 2 * (size - 1) - index)


def mirror(values: NDArray[Any], axis: int, index: NDArray[np.int64], length: int) -> None:
    """Fill `values` beyond the first `length` along `axis` with those at `index`, all of these.

    Each entry of `index` must be below `length`. Axis after axis, that fills a box whose first
    corner is known.
    """
    if length == len(index):
        return
    beyond = (slice(None),) * axis + (slice(length, None),)
    values[beyond] = values.take(index[length:], axis)
