"""Mean and deviation of an image from sums over its blocks.

The sums of integer images are exact integers, so the order of reading cannot matter. Floating
images are summed in float64 over fixed blocks in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Statistics:
    """Mean and population standard deviation of the pixels of one channel, or of all."""

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


def channel_statistics(blocks: Iterable[NDArray[Any]]) -> tuple[Statistics, ...]:
    """Return the statistics of each channel of `blocks` (C, ...), one block in memory at a time."""
    sums: list[Any] = []
    for block in blocks:
        kind = FloatMoments if block.dtype.kind == "f" else IntegerSums
        found = [kind.of(channel) for channel in block]
        # Not added to empty sums: that would round the moments of a first block once more.
        sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
    return tuple(s.statistics() for s in sums)
