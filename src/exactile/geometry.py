"""Intervals, boxes and halos: the small values that tiling is written in.

All positions are whole pixels and all intervals are half open. A box has one interval for each
spatial axis, in the order of the array (Y, X for planes; Z, Y, X for volumes).

            halo.low      zone      halo.high
          |<-------->|<---------->|<--------->|
    ------+----------+------------+-----------+------> one axis
          0          start        stop

Nothing here knows of images or of networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, prod
from types import EllipsisType

PLANES, VOLUMES = 2, 3
"""Spatial axes of a plane, and of a volume."""

AXES = ("Z", "Y", "X")
"""Names of the spatial axes in array order; planes have the last two."""


def floor_to(value: int, step: int) -> int:
    """Return the largest multiple of `step` that is not above `value`."""
    return value // step * step


def ceil_to(value: int, step: int) -> int:
    """Return the smallest multiple of `step` that is not below `value`."""
    return -(-value // step) * step


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """The positions `start <= p < stop` of one axis.

    >>> Interval(2, 5).length
    3
    >>> Interval(2, 5) & Interval(4, 9)
    Interval(start=4, stop=5)
    """

    start: int
    """First position inside."""
    stop: int
    """First position after the interval; never below `start`."""

    def __post_init__(self) -> None:
        if self.stop < self.start:
            raise ValueError(f"interval [{self.start}, {self.stop}) ends before it starts")

    @property
    def length(self) -> int:
        """Number of positions."""
        return self.stop - self.start

    def __contains__(self, other: Interval) -> bool:
        return self.start <= other.start and other.stop <= self.stop

    def __and__(self, other: Interval) -> Interval:
        """Return the common part; empty, at the later start, where there is none."""
        start = max(self.start, other.start)
        return Interval(start, max(start, min(self.stop, other.stop)))

    def shift(self, by: int) -> Interval:
        """Return the interval moved by `by` pixels."""
        return Interval(self.start + by, self.stop + by)

    def grow(self, halo: Halo) -> Interval:
        """Return the interval with `halo` added on both sides."""
        return Interval(self.start - halo.low, self.stop + halo.high)

    def split(self, step: int) -> Iterator[Interval]:
        """Yield consecutive intervals of `step` positions; the last may be shorter.

        >>> [(part.start, part.stop) for part in Interval(0, 5).split(2)]
        [(0, 2), (2, 4), (4, 5)]
        """
        for start in range(self.start, self.stop, step):
            yield Interval(start, min(start + step, self.stop))


@dataclass(frozen=True, slots=True)
class Halo:
    """How far a zone depends on input outside itself, on the two sides of one axis, in pixels."""

    low: int
    """Towards smaller coordinates."""
    high: int
    """Towards larger coordinates."""

    def __post_init__(self) -> None:
        if self.low < 0 or self.high < 0:
            raise ValueError(f"a halo cannot be negative: ({self.low}, {self.high})")

    @property
    def total(self) -> int:
        """Both sides together."""
        return self.low + self.high

    def round_up(self, step: int) -> Halo:
        """Return the halo with both sides rounded up to multiples of `step`."""
        return Halo(ceil_to(self.low, step), ceil_to(self.high, step))


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """One interval for each axis: a rectangle of pixels, or a cuboid of voxels."""

    axes: tuple[Interval, ...]
    """Intervals in array order, (Y, X) or (Z, Y, X)."""

    @classmethod
    def of_shape(cls, shape: tuple[int, ...]) -> Box:
        """Return the box from the origin with the given side lengths."""
        return cls(tuple(Interval(0, side) for side in shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """Side lengths in array order."""
        return tuple(axis.length for axis in self.axes)

    @property
    def start(self) -> tuple[int, ...]:
        """The first position on every axis."""
        return tuple(axis.start for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return prod(self.shape)

    def __contains__(self, other: Box) -> bool:
        return all(b in a for a, b in zip(self.axes, other.axes, strict=True))

    def __and__(self, other: Box) -> Box:
        return Box(tuple(a & b for a, b in zip(self.axes, other.axes, strict=True)))

    def shift(self, by: tuple[int, ...]) -> Box:
        """Return the box moved by `by` pixels on each axis."""
        return Box(tuple(a.shift(d) for a, d in zip(self.axes, by, strict=True)))

    def relative_to(self, origin: Box) -> Box:
        """Return the same pixels in the coordinates of an array that starts where `origin` does."""
        return self.shift(tuple(-s for s in origin.start))

    @property
    def place(self) -> str:
        """Where the box lies, for people.

        >>> Box.of_shape((7, 8)).place
        'y 0 to 7, x 0 to 8'
        """
        named = zip(AXES[-len(self.axes) :], self.axes, strict=True)
        return ", ".join(f"{name.lower()} {axis.start} to {axis.stop}" for name, axis in named)

    @property
    def slices(self) -> tuple[EllipsisType | slice, ...]:
        """The box as an index into the last axes of an array that starts at position 0."""
        return (..., *(slice(axis.start, axis.stop) for axis in self.axes))


@dataclass(frozen=True, slots=True)
class AxisLocality:
    """How a network's output depends on its input along one axis.

    An output zone that starts and ends on multiples of `alignment` (counted from the image's
    origin) depends on the zone itself and on `halo` around it, and on nothing else.

    Zones are counted in output positions: the zone of the positions from i * step to (i + 1) * step
    depends on the pixels from i * F - halo.low to (i + 1) * F + halo.high.
    """

    alignment: int
    """F, the period of the network's translation behaviour, in pixels."""
    halo: Halo
    """What a zone needs beyond itself, in pixels; multiples of `alignment`."""
    scale: Fraction = Fraction(1)
    """Output positions for each input pixel."""
    crop: Halo = Halo(0, 0)
    """Input pixels at both ends that have no output: what valid convolutions take away."""
    least: int = 1
    """Smallest window that the network was seen to treat as described, in pixels."""

    def __post_init__(self) -> None:
        if self.alignment < 1:
            raise ValueError(f"alignment F must be at least 1, not {self.alignment}")
        if self.halo.low % self.alignment or self.halo.high % self.alignment:
            raise ValueError(f"{self.halo} is not made of multiples of F = {self.alignment}")
        if (self.alignment * self.scale).denominator != 1:
            raise ValueError(
                f"F = {self.alignment} px hold no whole number of output positions at a scale of "
                f"{self.scale}"
            )

    @property
    def step(self) -> int:
        """Output positions in a period of F pixels."""
        return int(self.alignment * self.scale)

    def pad(self, side: int) -> int:
        """Return `side` rounded up to a multiple of F: the extent that the network sees."""
        return ceil_to(side, self.alignment)

    def output_length(self, extent: int) -> int:
        """Return how many positions the network gives for `extent` pixels, at least 0."""
        return max(0, int((extent - self.crop.total) * self.scale))

    def kept_length(self, side: int) -> int:
        """Return how many output positions lie inside an image of `side` pixels.

        Position p lies at pixel crop.low + p / scale.
        """
        inside = max(0, ceil((side - self.crop.low) * self.scale))
        return min(inside, self.output_length(self.pad(side)))


@dataclass(frozen=True, slots=True)
class Locality:
    """F and the halo of a network on every spatial axis, in array order."""

    axes: tuple[AxisLocality, ...]

    @classmethod
    def isotropic(cls, alignment: int, needed: Halo, dimensions: int = 2) -> Locality:
        """Return the same locality on all axes; `needed` is rounded up to `alignment`."""
        return cls((AxisLocality(alignment, needed.round_up(alignment)),) * dimensions)

    @property
    def alignment(self) -> tuple[int, ...]:
        """F on every axis."""
        return tuple(axis.alignment for axis in self.axes)

    @property
    def halo(self) -> tuple[Halo, ...]:
        """The halo on every axis."""
        return tuple(axis.halo for axis in self.axes)

    def pad(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return `shape` rounded up to multiples of F: the extent that the network sees."""
        return tuple(axis.pad(side) for side, axis in zip(shape, self.axes, strict=True))

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the size of the output for an image of `shape`: the positions inside the image."""
        return tuple(axis.kept_length(side) for side, axis in zip(shape, self.axes, strict=True))
