"""Mean and deviation of an image from sums over its blocks.

The sums of integer images are exact integers, so the order of reading cannot matter. Floating
images are summed in float64 over fixed blocks in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from fractions import Fraction
from functools import reduce
from math import sqrt
from operator import add
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from exactile.normalization.blocks import LARGEST
from exactile.normalization.gathering import Gather, require

PIECE = 2**15
"""So many small integers are made wide together: they stay in the core's own memory."""


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
            values = pixels.ravel()
            pieces = (values[start : start + PIECE] for start in range(0, values.size, PIECE))
            return sum(map(cls._of_short, pieces), cls())
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

    @classmethod
    def _of_short(cls, values: NDArray[Any]) -> IntegerSums:
        """Return the sums of up to PIECE values of up to 16 bits."""
        wide = values.astype(np.int64)
        return cls(values.size, int(wide.sum()), int(np.dot(wide, wide)))

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


class ChannelIntegers(Gather[tuple[IntegerSums, ...]]):
    """The exact sums of each channel; the order of blocks does not matter."""

    def gather(self, blocks: Iterable[NDArray[Any]]) -> tuple[IntegerSums, ...]:
        """Return the sums of each channel."""
        return _added(tuple(IntegerSums.of(channel) for channel in block) for block in blocks)

    def merge(self, parts: Sequence[tuple[IntegerSums, ...]]) -> tuple[IntegerSums, ...]:
        """Return the sums of the sums."""
        return _added(parts)

    def check(self, found: tuple[IntegerSums, ...], channels: int, count: int | None) -> None:
        """See that each channel has a variance, and pixels that are not too large."""
        require(possible=len(found) == channels)
        largest = int(LARGEST)
        for sums in found:
            require(possible=sums.count > 0 and count in (None, sums.count))
            require(possible=sums.total**2 <= sums.count * sums.squares)
            require(possible=sums.squares <= sums.count * largest**2)

    def encode(self, found: tuple[IntegerSums, ...]) -> Any:
        """Return count, total and sum of squares of each channel."""
        return [astuple(sums) for sums in found]

    def decode(self, value: Any) -> tuple[IntegerSums, ...]:
        """Return the sums of each channel."""
        return tuple(
            IntegerSums(_integer(n), _integer(total), _integer(squares))
            for n, total, squares in value
        )


Blocks = tuple[tuple[FloatMoments, ...], ...]
"""The moments of each channel (inner) of each block (outer)."""


class ChannelFloats(Gather[Blocks]):
    """The moments of each block and channel, apart: they are added in the order of the blocks.

    Sums of floats depend on the order of additions, so no part may add its own beforehand.
    """

    def gather(self, blocks: Iterable[NDArray[Any]]) -> Blocks:
        """Return the moments of each block."""
        return tuple(tuple(FloatMoments.of(channel) for channel in block) for block in blocks)

    def merge(self, parts: Sequence[Blocks]) -> Blocks:
        """Return the blocks of all parts."""
        return tuple(block for part in parts for block in part)

    def check(self, found: Blocks, channels: int, count: int | None) -> None:
        """See that each channel of each block has a variance, and pixels that are not too large."""
        require(possible=bool(found) and all(len(block) == channels for block in found))
        for moments in (each for block in found for each in block):
            require(possible=moments.count > 0 and abs(moments.mean) <= LARGEST)
            require(possible=0 <= moments.squares <= moments.count * LARGEST**2)
        totals = {sum(block[c].count for block in found) for c in range(channels)}
        require(possible=count is None or totals == {count})

    def encode(self, found: Blocks) -> Any:
        """Return count, mean and sum of squared deviations of each channel of each block."""
        return [[astuple(moments) for moments in block] for block in found]

    def decode(self, value: Any) -> Blocks:
        """Return the moments of each block; JSON text holds every bit of a finite float."""
        return tuple(
            tuple(FloatMoments(_integer(n), float(mean), float(m2)) for n, mean, m2 in block)
            for block in value
        )


def channel_integers(found: tuple[IntegerSums, ...]) -> tuple[Statistics, ...]:
    """Return the statistics of each channel, from its sums."""
    return tuple(sums.statistics() for sums in found)


def channel_floats(found: Blocks) -> tuple[Statistics, ...]:
    """Return the statistics of each channel, from the moments of its blocks in their order."""
    return tuple(moments.statistics() for moments in _added(found))


Sums = TypeVar("Sums", IntegerSums, FloatMoments)


def _added(rows: Iterable[tuple[Sums, ...]]) -> tuple[Sums, ...]:
    """Return the sum of each column of `rows`, at least one, from the first to the last.

    Not added to empty sums: that would round the moments of a first block once more.
    """
    return reduce(lambda sums, row: tuple(map(add, sums, row)), rows)


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return value
