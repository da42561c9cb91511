"""Exact percentiles of an image in bounded memory, by radix selection.

Every dtype is mapped to unsigned keys in the same order. A first pass counts the leading 16 bits of
all keys; each further pass counts the next 16 bits of those keys alone that share their leading
bits with an order statistic that is wanted. One pass does for 8 and 16 bits, two for 32, four for
64. Counts are exact, so neither blocks nor the order of reading matter.

Between two order statistics the value is interpolated as numpy does it ("linear", method 7 of
Hyndman and Fan, 1996), in the same float64 arithmetic: what is returned equals
`numpy.percentile(pixels.astype(numpy.float64), q)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exactile.normalization.blocks import LARGEST, Pixels
from exactile.normalization.gathering import Gather, require

DIGIT = 16
"""Bits of the keys that a pass counts."""

PIECE = 2**18
"""Pixels that are counted at once: their keys stay in the processor's cache."""

Counts = dict[int, NDArray[np.int64]]
"""How many keys there are with each digit, by the bits that lead up to it."""

Range = tuple[float, float]
"""The least and the largest value."""


@dataclass(frozen=True, slots=True)
class _Place:
    """An order statistic of which the leading bits are known."""

    prefix: int
    rank: int
    """Its rank, from 0, among the keys with that prefix."""

    def narrowed(self, counts: Counts, width: int) -> _Place:
        """Return the place with the next `width` bits, from the counts of their digits.

        Raises InconsistentError where those are fewer than the rank.
        """
        upto = np.cumsum(counts[self.prefix])
        digit = int(np.searchsorted(upto, self.rank, side="right"))
        # Of counts that were read back, there may be fewer than there are keys.
        require(possible=digit < len(upto))
        below = int(upto[digit - 1]) if digit else 0
        return _Place(self.prefix << width | digit, self.rank - below)


def percentiles(
    read: Callable[[Gather[Any]], Any], pixels: Pixels, wanted: tuple[float, ...]
) -> tuple[tuple[float, ...], ...]:
    """Return for each channel the percentiles `wanted`, each from 0 to 100, in that order.

    `read` says what there is in all of `pixels`, whose blocks are not asked for here. Memory beside
    a block: half a MiB for each channel and each order statistic, two of which make a percentile.
    Zero comes without a sign.
    """
    if set(wanted) <= {0, 100}:
        found: tuple[Range, ...] = read(ChannelExtremes())
        return tuple(tuple(high if q else low for q in wanted) for low, high in found)
    between = [_neighbours(pixels.count, q) for q in wanted]
    ranks = {rank for low, high, _ in between for rank in (low, high)}
    return tuple(
        tuple(_interpolate(value[low], value[high], fraction) for low, high, fraction in between)
        for value in _order_statistics(read, pixels, ranks)
    )


class ChannelExtremes(Gather[tuple[Range, ...]]):
    """The least and the largest value of each channel."""

    def gather(self, blocks: Iterable[NDArray[Any]]) -> tuple[Range, ...]:
        """Return the extremes of each channel."""
        return self.merge([tuple((c.min(), c.max()) for c in block) for block in blocks])

    def merge(self, parts: Sequence[tuple[Range, ...]]) -> tuple[Range, ...]:
        """Return the extremes of the extremes."""
        found = []
        for channel in zip(*parts, strict=True):
            lows, highs = zip(*channel, strict=True)
            found.append((_unsigned_zero(float(min(lows))), _unsigned_zero(float(max(highs)))))
        return tuple(found)

    def check(self, found: tuple[Range, ...], channels: int, count: int | None) -> None:
        """See that each channel has extremes, and pixels that are not too large."""
        require(possible=len(found) == channels)
        require(possible=all(-LARGEST <= low <= high <= LARGEST for low, high in found))

    def encode(self, found: tuple[Range, ...]) -> Any:
        """Return the least and the largest value of each channel."""
        return [list(pair) for pair in found]

    def decode(self, value: Any) -> tuple[Range, ...]:
        """Return the extremes of each channel; float64 holds all pixels that are admitted."""
        return tuple((float(low), float(high)) for low, high in value)


def _neighbours(count: int, q: float) -> tuple[int, int, float]:
    """Return the ranks around percentile `q` of `count` values, and how far it is between them."""
    position = (count - 1) * (q / 100)
    low = min(floor(position), count - 1)
    return low, min(low + 1, count - 1), position - low


def _interpolate(low: float, high: float, fraction: float) -> float:
    """Return the value at `fraction` of the way from `low` to `high`, rounded as numpy does."""
    difference = high - low
    if fraction < 0.5:
        return low + difference * fraction
    return high - difference * (1 - fraction)


def _order_statistics(
    read: Callable[[Gather[Any]], Any], pixels: Pixels, ranks: set[int]
) -> list[dict[int, float]]:
    """Return for each channel the values at `ranks` (from 0) of its pixels in ascending order."""
    bits = 8 * pixels.dtype.itemsize
    width = min(DIGIT, bits)
    places = [{rank: _Place(0, rank) for rank in ranks} for _ in range(pixels.channels)]
    for shift in range(bits - width, -1, -width):
        prefixes = tuple(
            tuple(sorted({place.prefix for place in found.values()})) for found in places
        )
        counts: list[Counts] = read(ChannelDigits(prefixes, shift, width))
        places = [
            {rank: place.narrowed(count, width) for rank, place in found.items()}
            for found, count in zip(places, counts, strict=True)
        ]
    return [
        {rank: _value(place.prefix, pixels.dtype) for rank, place in found.items()}
        for found in places
    ]


@dataclass(frozen=True)
class ChannelDigits(Gather[list[Counts]]):
    """How often each digit follows each prefix in the keys of each channel."""

    prefixes: tuple[tuple[int, ...], ...]
    """For each channel, in ascending order."""
    shift: int
    """Bits of the key below the digit."""
    width: int
    """Bits of the digit."""

    def gather(self, blocks: Iterable[NDArray[Any]]) -> list[Counts]:
        """Return the counts of each channel."""
        counts = self._zeros()
        for block in blocks:
            leading = self.shift + self.width == 8 * block.dtype.itemsize
            for count, channel in zip(counts, block.reshape(len(block), -1), strict=True):
                for start in range(0, channel.size, PIECE):
                    shifted = _keys(channel[start : start + PIECE]) >> self.shift
                    above = None if leading else shifted >> self.width
                    for prefix, digits in count.items():
                        inside = shifted if above is None else shifted[above == prefix]
                        # The bits above the digit are those of the prefix.
                        inside = (inside & ((1 << self.width) - 1)).astype(np.intp)
                        digits += np.bincount(inside, minlength=1 << self.width)
        return counts

    def merge(self, parts: Sequence[list[Counts]]) -> list[Counts]:
        """Return the sums of the counts."""
        counts = self._zeros()
        for part in parts:
            for count, more in zip(counts, part, strict=True):
                for prefix, digits in count.items():
                    digits += more[prefix]
        return counts

    def check(self, found: list[Counts], channels: int, count: int | None) -> None:
        """See that nothing is counted less than never, and no channel has too many pixels."""
        require(possible=len(found) == channels)
        for counts in found:
            require(possible=all((digits >= 0).all() for digits in counts.values()))
            total = sum(int(digits.sum(dtype=object)) for digits in counts.values())
            require(possible=count is None or total <= count)

    def encode(self, found: list[Counts]) -> Any:
        """Return for each channel and prefix the digits that there are, and how many of each."""
        channels = []
        for count in found:
            there = {prefix: np.flatnonzero(digits) for prefix, digits in count.items()}
            channels.append(
                [
                    {
                        "prefix": prefix,
                        "digits": there[prefix].tolist(),
                        "counts": digits[there[prefix]].tolist(),
                    }
                    for prefix, digits in count.items()
                ]
            )
        return channels

    def decode(self, value: Any) -> list[Counts]:
        """Return the counts of each channel."""
        prefixes = tuple(tuple(each["prefix"] for each in channel) for channel in value)
        if prefixes != self.prefixes:
            raise ValueError(f"digits after {prefixes} are counted, not after {self.prefixes}")
        counts = self._zeros()
        for count, channel in zip(counts, value, strict=True):
            for each in channel:
                digits = np.array(each["digits"], np.intp)
                if (digits < 0).any():
                    raise ValueError("a digit is negative")
                count[each["prefix"]][digits] = np.array(each["counts"], np.int64)
        return counts

    def _zeros(self) -> list[Counts]:
        return [
            {prefix: np.zeros(1 << self.width, np.int64) for prefix in of} for of in self.prefixes
        ]


def _keys(values: NDArray[Any]) -> NDArray[Any]:
    """Return unsigned integers in the order of `values` (N,): booleans, integers or finite floats.

    Signed integers: the sign bit turned. Floats: all bits turned where negative, else the sign bit
    alone; -0.0 comes just before 0.0.
    """
    unsigned = np.dtype(f"u{values.dtype.itemsize}")
    bits = values.view(unsigned)
    sign = unsigned.type(1 << (8 * unsigned.itemsize - 1))
    if values.dtype.kind == "f":
        negative = bits >> unsigned.type(8 * unsigned.itemsize - 1)
        bits = bits ^ (np.negative(negative) | sign)
    elif values.dtype.kind == "i":
        bits = bits ^ sign
    return bits


def _value(key: int, dtype: np.dtype[Any]) -> float:
    """Return the value whose key is `key`, exactly."""
    bits = 8 * dtype.itemsize
    sign, turned = 1 << (bits - 1), (1 << bits) - 1
    if dtype.kind == "f":
        key ^= sign if key & sign else turned
    elif dtype.kind == "i":
        key ^= sign
    return _unsigned_zero(float(np.array(key, f"u{dtype.itemsize}").view(dtype)))


def _unsigned_zero(value: float) -> float:
    return value + 0.0
