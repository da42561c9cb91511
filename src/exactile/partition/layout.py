"""How the axes of a tensor are split over ranks, and which positions each rank wants of them.

An axis of n positions split over ranks 0 .. m-1 is described by m + 1 cuts. Rank i owns the
positions from cuts[i] to cuts[i + 1]; a part may be empty.

    cuts[0] = 0        cuts[1]           cuts[2]      cuts[3] = n
       |----- rank 0 -----|----- rank 1 -----|-- rank 2 --|

All values are known to all ranks, so that every rank can tell what every other one wants of it.
Nothing here knows of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from exactile.geometry import Interval, floor_to

Layout = tuple["Split | None", ...]
"""For each dimension of a tensor, how it is split; None where every rank holds all of it."""


@dataclass(frozen=True, slots=True)
class Split:
    """One dimension of a tensor, split over the ranks along one axis of the mesh."""

    axis: int
    """Axis of the mesh, not of the tensor."""
    cuts: tuple[int, ...]
    """Where parts begin and end: from 0 to the extent, never falling."""

    def __post_init__(self) -> None:
        if self.cuts[0] != 0 or any(a > b for a, b in zip(self.cuts, self.cuts[1:], strict=False)):
            raise ValueError(f"cuts {self.cuts} do not rise from 0")

    @property
    def extent(self) -> int:
        """Positions of the whole dimension."""
        return self.cuts[-1]

    @property
    def parts(self) -> tuple[Interval, ...]:
        """What each rank along the axis owns."""
        return tuple(Interval(a, b) for a, b in zip(self.cuts, self.cuts[1:], strict=False))

    def moved(self, extent: int, place: Callable[[int], int]) -> Split:
        """Return the split of an output of `extent` positions whose inner cuts lie at `place`.

        >>> Split(0, (0, 4, 9)).moved(5, lambda cut: cut // 2).cuts
        (0, 2, 5)
        """
        inner = (min(max(place(cut), 0), extent) for cut in self.cuts[1:-1])
        return Split(self.axis, (0, *inner, extent))


def even_cuts(extent: int, parts: int, alignment: int = 1) -> tuple[int, ...]:
    """Return cuts on multiples of `alignment` that make the parts as equal as may be.

    >>> even_cuts(20, 3, 4)
    (0, 8, 12, 20)
    """
    inner = (
        floor_to((2 * extent * i + parts * alignment) // (2 * parts), alignment)
        for i in range(1, parts)
    )
    return (0, *(min(cut, extent) for cut in inner), extent)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one rank wants of a split dimension: runs of positions, between constant ones."""

    runs: tuple[Interval, ...]
    """Positions of the whole dimension, in the order wanted; they may repeat."""
    low: int = 0
    """Constant positions before the runs."""
    high: int = 0
    """Constant positions after them."""

    @property
    def length(self) -> int:
        """Positions wanted."""
        return self.low + sum(run.length for run in self.runs) + self.high


def within(interval: Interval, extent: int) -> Wanted:
    """Return `interval` of a dimension that is constant outside 0 .. extent.

    >>> within(Interval(-2, 3), 9)
    Wanted(runs=(Interval(start=0, stop=3),), low=2, high=0)
    """
    low = max(0, min(interval.stop, 0) - interval.start)
    high = max(0, interval.stop - max(interval.start, extent))
    inside = interval & Interval(0, extent)
    return Wanted((inside,) if inside.length else (), low, high)


@dataclass(frozen=True, slots=True)
class Taps:
    """What a sliding window reads: output p reads p * stride - padding + i * dilation, i < kernel.

    Convolutions and poolings are of this kind.
    """

    kernel: int
    """Positions read."""
    stride: int
    """Input positions from one output position to the next."""
    padding: int
    """Positions before the first that the first output position reads."""
    dilation: int
    """Input positions from one tap to the next."""

    @property
    def span(self) -> int:
        """Positions from the first tap to the last, both included."""
        return (self.kernel - 1) * self.dilation + 1

    def place(self, cut: int) -> int:
        """Return the first output position whose window has its middle at `cut` or after it.

        >>> Taps(kernel=3, stride=2, padding=1, dilation=1).place(8)
        4
        """
        return -(-(2 * (cut + self.padding) - self.span + 1) // (2 * self.stride))

    def extent(self, side: int, high: int, *, ceil: bool = False) -> int:
        """Return how many windows fit `side` positions with `high` padding after them."""
        room = side + self.padding + high - self.span
        if not ceil:
            return room // self.stride + 1
        count = -(-room // self.stride) + 1
        # The last window must start inside the input or the padding before it.
        return count - ((count - 1) * self.stride >= side + self.padding)

    def read(self, own: Interval) -> Interval:
        """Return all positions from the first to the last that `own` outputs read.

        An operator cannot run on nothing: of an empty interval, its first window.
        """
        start = own.start * self.stride - self.padding
        return Interval(start, start + max(own.length - 1, 0) * self.stride + self.span)

    def wanted(self, split: Split, target: Split) -> tuple[Wanted, ...]:
        """Return what each rank reads of `split` for its part of `target`."""
        return tuple(
            within(self.read(own), split.extent) if own.length else Wanted((), self.span)
            for own in target.parts
        )


@dataclass(frozen=True, slots=True)
class TransposedTaps:
    """What a transposed window writes: input q goes to q * stride - padding + i * dilation."""

    taps: Taps
    """The window whose transpose it is."""

    def place(self, cut: int) -> int:
        """Return the first output position nearer to input `cut` than to the one before it.

        >>> TransposedTaps(Taps(kernel=2, stride=2, padding=0, dilation=1)).place(3)
        6
        """
        taps = self.taps
        middle = (2 * cut - 1) * taps.stride - 2 * taps.padding + taps.span - 1
        return middle // 2 + 1

    def extent(self, side: int, extra: int) -> int:
        """Return the extent of the output; `extra` is the output padding."""
        taps = self.taps
        return (side - 1) * taps.stride - 2 * taps.padding + taps.span + extra

    def read(self, own: Interval) -> Interval:
        """Return the inputs that write to `own`, and enough that their outputs cover it."""
        taps = self.taps
        first, last = own.start + taps.padding, own.stop - 1 + taps.padding
        low = min(-(-(first - taps.span + 1) // taps.stride), first // taps.stride)
        high = max(last // taps.stride, -(-(last - taps.span + 1) // taps.stride))
        return Interval(low, high + 1)

    def wanted(self, split: Split, target: Split) -> tuple[Wanted, ...]:
        """Return what each rank reads of `split` for its part of `target`."""
        return tuple(
            within(self.read(own), split.extent) if own.length else Wanted((), 1)
            for own in target.parts
        )

    def skip(self, own: Interval) -> int:
        """Return how many outputs of what `read` gives lie before `own`."""
        if not own.length:
            return 0
        return own.start - (self.read(own).start * self.taps.stride - self.taps.padding)


def unchanged(split: Split, wanted: Sequence[Wanted]) -> bool:
    """Whether every rank wants what it owns, and nothing else."""
    return all(
        not (want.low or want.high) and want.runs == ((own,) if own.length else ())
        for own, want in zip(split.parts, wanted, strict=True)
    )


def parts_as_wanted(target: Split) -> tuple[Wanted, ...]:
    """Return for each rank its part of `target`, of a dimension that is split otherwise."""
    return tuple(Wanted((own,) if own.length else ()) for own in target.parts)
