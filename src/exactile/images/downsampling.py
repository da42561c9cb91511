"""Images of half the size: what one pixel says of the 2 x 2 that it stands for.

        a | b
        --+--  ->  mode or mean of a, b, c, d
        c | d

What is promised:

- An odd side is rounded up. The last row or column then stands for the two pixels, in the corner
  for the one pixel, that there are: nothing beyond the image counts.
- mode, for labels: the number that most of the four have; of several, the least. A line one pixel
  wide between zeros is lost so, one of two pixels, where it lies on the grid, is kept.
- mean of integers: exact, rounded to the nearest, a half to the even one.
- mean of floats: (a + b) + (c + d) in float64, rounded once to the type of the pixels; NaN stays.
- Each pixel depends on its own four alone, so an image may be cut anywhere on even positions.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Downsampling = Literal["mode", "mean"]
"""How one pixel is made of four: the most frequent number, or the mean."""

_Corners = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def halve(pixels: NDArray[Any], how: Downsampling) -> NDArray[Any]:
    """Return `pixels` (C, Y, X) at half the size, (C, ceil(Y / 2), ceil(X / 2)), of their type.

    There may be more axes before Y and X, or none. The mode is for integers.
    """
    height, width = pixels.shape[-2:]
    if height % 2 or width % 2:
        # Doubled pixels weigh as much as single ones in a mode, and in a mean.
        before = [(0, 0)] * (pixels.ndim - 2)
        pixels = np.pad(pixels, [*before, (0, height % 2), (0, width % 2)], mode="edge")
    corners = (
        pixels[..., ::2, ::2],
        pixels[..., ::2, 1::2],
        pixels[..., 1::2, ::2],
        pixels[..., 1::2, 1::2],
    )
    if how == "mode":
        return _mode(corners)
    if pixels.dtype.kind == "f":
        return _mean_of_floats(corners)
    return _mean_of_integers(corners)


def _mode(corners: _Corners) -> NDArray[Any]:
    """Sort the four; the first of the pairs of equal neighbours is the least of the modes."""
    # Copied first: comparisons are 30 times faster on pixels that lie side by side.
    a, b, c, d = map(np.ascontiguousarray, corners)
    low, high = np.minimum(a, b), np.maximum(a, b)
    lower, higher = np.minimum(c, d), np.maximum(c, d)
    first, last = np.minimum(low, lower), np.maximum(high, higher)
    low, high = np.maximum(low, lower), np.minimum(high, higher)
    second, third = np.minimum(low, high), np.maximum(low, high)
    # Without any pair, all four are modes, and the first is the least.
    result: NDArray[Any] = np.where(third == last, third, first)
    np.copyto(result, second, where=second == third)
    np.copyto(result, first, where=first == second)
    return result


def _mean_of_floats(corners: _Corners) -> NDArray[Any]:
    a, b, c, d = corners
    with np.errstate(invalid="ignore"):  # infinities of both signs have no mean: NaN
        upper = np.add(a, b, dtype=np.float64)
        upper += np.add(c, d, dtype=np.float64)
        upper *= 0.25
        return upper.astype(a.dtype)


def _mean_of_integers(corners: _Corners) -> NDArray[Any]:
    a, b, c, d = corners
    total = np.add(a, b, dtype=np.int64)
    total += np.add(c, d, dtype=np.int64)
    # With 4 q + r for the total, q or q + 1: one less than a half is added, and 1 for odd q.
    total += 1 + (total >> 2 & 1)
    return (total >> 2).astype(a.dtype)
