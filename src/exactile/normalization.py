"""Whole-image z-score, from statistics that are streamed over the image block by block.

The sums of integer images are exact integers, so the order of reading cannot matter. Floating
images are summed in float64 over fixed blocks in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.errors import ImageError
from exactile.geometry import Box, Interval
from exactile.images.source import Plane, Source

LEAST_DEVIATION = 1.0
"""At or below this standard deviation only the mean is subtracted (NIST's reference code)."""

LARGEST = 2.0**126
"""No pixel may be further from zero: differences of such pixels fit into float32."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Mean and population standard deviation of one channel of one plane."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class IntegerSums:
    """Exact count, sum and sum of squares."""

    count: int = 0
    total: int = 0
    squares: int = 0

    @classmethod
    def of(cls, pixels: NDArray[Any]) -> IntegerSums:
        """Return the sums of a block of integers of up to 32 bits."""
        if pixels.dtype.itemsize <= 2:
            # Squares of 16-bit values stay below 2^63 when summed over any block in memory.
            values = pixels.astype(np.int64).ravel()
            return cls(pixels.size, int(values.sum()), int(np.dot(values, values)))
        offset = int(np.iinfo(pixels.dtype).min)
        shifted = (pixels.astype(np.int64) - offset).astype(np.uint64)
        # Two 16-bit halves: the sums of their products stay below 2^64 for any block in memory.
        high, low = shifted >> np.uint64(16), shifted & np.uint64(0xFFFF)
        squares = (
            (int((high * high).sum()) << 32)
            + (int((high * low).sum()) << 17)
            + int((low * low).sum())
        )
        count, total = pixels.size, int(shifted.sum())
        # From x - offset back to x.
        squares += 2 * offset * total + count * offset * offset
        return cls(count, total + count * offset, squares)

    def __add__(self, other: IntegerSums) -> IntegerSums:
        return IntegerSums(
            self.count + other.count, self.total + other.total, self.squares + other.squares
        )

    def statistics(self) -> Statistics:
        """Return mean and deviation, each rounded once."""
        variance = Fraction(self.count * self.squares - self.total**2, self.count**2)
        return Statistics(float(Fraction(self.total, self.count)), sqrt(variance))


@dataclass(frozen=True, slots=True)
class FloatMoments:
    """Count, mean and sum of squared deviations in float64; merged by Chan et al. (1983)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, pixels: NDArray[Any]) -> FloatMoments:
        """Return the moments of a block."""
        values = pixels.astype(np.float64)
        mean = float(values.mean())
        return cls(values.size, mean, float(np.square(values - mean).sum()))

    def __add__(self, other: FloatMoments) -> FloatMoments:
        count = self.count + other.count
        difference = other.mean - self.mean
        return FloatMoments(
            count,
            self.mean + difference * (other.count / count),
            self.squares + other.squares + difference**2 * (self.count * other.count / count),
        )

    def statistics(self) -> Statistics:
        """Return mean and deviation."""
        return Statistics(self.mean, sqrt(self.squares / self.count))


def statistics_of_blocks(blocks: Iterator[NDArray[Any]]) -> Statistics:
    """Return the statistics of all pixels of `blocks`, one block in memory at a time."""
    first = next(blocks)
    kind = FloatMoments if first.dtype.kind == "f" else IntegerSums
    sums: Any = kind.of(first)
    for block in blocks:
        sums = sums + kind.of(block)
    result: Statistics = sums.statistics()
    return result


def image_statistics(source: Source, plane: Plane, channel: int) -> Statistics:
    """Return the statistics of one channel of one plane, read chunk by chunk.

    Raises:
        ImageError: if pixels are NaN, infinite or too large, or the plane cannot be read.
    """
    return statistics_of_blocks(_blocks(source, plane, channel))


def _blocks(source: Source, plane: Plane, channel: int) -> Iterator[NDArray[Any]]:
    sides = zip(source.shape, source.chunk, strict=True)
    for axes in product(*(Interval(0, side).split(step) for side, step in sides)):
        box = Box(axes)
        pixels = source.read(plane, (channel,), box)[0]
        # NaN is not within either.
        if pixels.dtype.kind == "f" and not (within := np.abs(pixels) <= LARGEST).all():
            bad = np.argwhere(~within)
            y, x = bad[0] + box.start
            raise ImageError(
                f"{source.path}: the pixel at y={y}, x={x} (plane t={plane.t}, z={plane.z}, "
                f"channel {channel}) is {pixels[tuple(bad[0])]}, and {len(bad) - 1} more near it "
                f"are not finite or beyond {LARGEST:.1e}; the network and the statistics of the "
                "whole image need finite float32 pixels: replace them first"
            )
        yield pixels


def normalize(pixels: NDArray[Any], statistics: tuple[Statistics, ...]) -> NDArray[np.float32]:
    """Return the z-score in float32 of `pixels` (C, Y, X), with the statistics of each channel."""
    shape = (-1,) + (1,) * (pixels.ndim - 1)
    mean = np.array([s.mean for s in statistics], dtype=np.float32).reshape(shape)
    scale = np.array(
        [s.deviation if s.deviation > LEAST_DEVIATION else 1.0 for s in statistics],
        dtype=np.float32,
    ).reshape(shape)
    result = pixels.astype(np.float32)
    result -= mean
    result /= scale
    return result
