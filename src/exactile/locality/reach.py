"""What every position of a tensor depends on, along one axis of the image.

A `Reach` says three things about each position p of a tensor:

    low[p], high[p]   the hull of the input positions that the value depends on
    mark[p]           which function of them it is

and the operator rules only ever gather and join them. Hulls never lose a position: joining takes
the least `low` and the greatest `high`. A value that depends on no input (a weight, a padding
zero) has the empty hull, `low = NOTHING` and `high = -NOTHING`.

A mark names a function of the input RELATIVE to `low`: two positions of one run with equal marks
compute the same function, one of the input shifted to the other's `low`. Marks are built by
induction: the mark of a position digests the marks of the positions that it reads, in order, with
their offsets `low[read] - low[p]`, and a number for the call. That is what proves a period: hulls
alone would call an image whose odd and even columns meet different weights periodic by 1. Marks
are 64-bit digests, so a proof holds but for a collision.

Arrays have as many dimensions as their tensor and broadcast against its shape: along a dimension
where they have side 1 (channels, the axes of the image that are not under analysis) the reach is
that of the whole fibre. `even` tells whether the VALUES of a fibre are all equal, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]
Marks = NDArray[np.uint64]

NOTHING = 1 << 40
"""`low` of a value that depends on no input; beyond every real position."""

ABSENT = -1
"""A tap that does not exist at this position (between the strides of a transposed convolution)."""
PADDING = -2
"""A tap in the padding at either end, or beyond it."""


@dataclass(frozen=True, slots=True)
class Pooled:
    """Where the indices of a max-pooling point: needed to put values back in their places."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    shape: tuple[int, ...]
    """Spatial shape of the tensor that was pooled."""

    def turned(self, shape: tuple[int, ...]) -> Pooled | None:
        """Return the same pooling on an image of `shape`, or None if indices mean others there.

        Indices count elements, so axes of side 1 may stand elsewhere (pooling in one dimension
        lowers to one axis order and un-pooling to the other).
        """
        if shape == self.shape:
            return self
        mine = [axis for axis, side in enumerate(self.shape) if side > 1]
        theirs = [axis for axis, side in enumerate(shape) if side > 1]
        if [self.shape[axis] for axis in mine] != [shape[axis] for axis in theirs]:
            return None

        def moved(values: tuple[int, ...], default: int) -> tuple[int, ...]:
            by_axis = dict(zip(theirs, (values[axis] for axis in mine), strict=True))
            return tuple(by_axis.get(axis, default) for axis in range(len(shape)))

        return Pooled(
            moved(self.kernel, 1),
            moved(self.stride, 1),
            moved(self.padding, 0),
            moved(self.dilation, 1),
            shape,
        )


@dataclass(frozen=True, slots=True)
class Reach:
    """Hull and mark of every position of one tensor, along one axis of the image."""

    low: Positions
    """First input position; `NOTHING` where there is none."""
    high: Positions
    """Last input position (inclusive); `-NOTHING` where there is none."""
    mark: Marks
    """Digest of the function of the input, relative to `low`."""
    even: tuple[bool, ...]
    """Per dimension: the values along it are all equal."""
    pooled: Pooled | None = None
    """Set on the indices of a max-pooling, which only an un-pooling may read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sides of the arrays; 1 where a whole fibre is described at once."""
        return self.low.shape

    def tracked(self, dim: int) -> bool:
        """Whether positions along `dim` are told apart."""
        return bool(self.low.shape[dim] > 1)

    @property
    def constant(self) -> bool:
        """Whether no value depends on the input."""
        least: int = self.low.min().item()
        return least == NOTHING

    @property
    def positional(self) -> bool:
        """Whether positions are told apart along any dimension."""
        return any(side > 1 for side in self.low.shape)


def number(*parts: object) -> np.uint64:
    """Return a 64-bit digest of any printable values, the same in every process."""
    digest = blake2b(repr(parts).encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def mix(mark: Marks, *parts: Marks | Positions | np.uint64) -> Marks:
    """Return `mark` digested with each part in turn (the finaliser of splitmix64)."""
    mixed = mark
    with np.errstate(over="ignore"):
        for part in parts:
            mixed = mixed ^ np.asarray(part).astype(np.uint64)
            mixed = (mixed + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x94D049BB133111EB)
            mixed = mixed ^ (mixed >> np.uint64(32))
    return mixed


def offsets(low: Positions, origin: Positions) -> Positions:
    """Return `low` relative to `origin`; 0 where there is no dependency to place."""
    return np.where(low == NOTHING, 0, low - origin)


def constant(shape: Sequence[int], mark: np.uint64, *, even: bool) -> Reach:
    """Return the reach of a tensor that depends on no input."""
    ones = (1,) * len(shape)
    return Reach(
        np.full(ones, NOTHING, np.int64),
        np.full(ones, -NOTHING, np.int64),
        np.full(ones, mark, np.uint64),
        tuple(even or side == 1 for side in shape),
    )


def source(shape: Sequence[int], dim: int) -> Reach:
    """Return the reach of the image itself: along `dim` each position depends on itself."""
    sides = [1] * len(shape)
    sides[dim] = shape[dim]
    positions = np.arange(shape[dim], dtype=np.int64).reshape(sides)
    return Reach(
        positions, positions, np.full(sides, number("image"), np.uint64), (False,) * len(shape)
    )


def salted(reach: Reach, salt: np.uint64) -> Reach:
    """Return the same hulls under a mark of their own: another function of the same input."""
    return replace(reach, mark=mix(reach.mark, salt))


def spread(reach: Reach, dim: int, size: int) -> Reach:
    """Tell apart the `size` positions along `dim`, by their index where they are not even."""
    if reach.tracked(dim) or size == 1:
        return reach
    sides = list(reach.shape)
    sides[dim] = size
    mark = np.broadcast_to(reach.mark, sides)
    if not reach.even[dim]:
        along = np.arange(size, dtype=np.int64).reshape(
            [-1 if d == dim else 1 for d in range(len(sides))]
        )
        mark = mix(mark, along, number("index"))
    return replace(
        reach,
        low=np.broadcast_to(reach.low, sides),
        high=np.broadcast_to(reach.high, sides),
        mark=mark,
        even=tuple(flag and d != dim for d, flag in enumerate(reach.even)),
    )


def join(
    low: Positions, high: Positions, mark: Marks, axis: int
) -> tuple[Positions, Positions, Marks]:
    """Join the positions along `axis` into one that depends on all of them, in their order."""
    least = low.min(axis=axis, keepdims=True)
    order = np.arange(low.shape[axis], dtype=np.int64)
    order = order.reshape([-1 if d == axis % low.ndim else 1 for d in range(low.ndim)])
    parts = mix(mark, offsets(low, least), order)
    with np.errstate(over="ignore"):
        joined = parts.sum(axis=axis, keepdims=True, dtype=np.uint64)
    return least, high.max(axis=axis, keepdims=True), joined


def fold(reach: Reach, dims: Sequence[int]) -> Reach:
    """Join all positions along each of `dims`, which keep the side 1."""
    low, high, mark = reach.low, reach.high, reach.mark
    for dim in dims:
        if low.shape[dim] > 1:
            low, high, mark = join(low, high, mark, dim)
    chosen = {dim % low.ndim for dim in dims}
    even = tuple(flag or d in chosen for d, flag in enumerate(reach.even))
    return Reach(low, high, mark, even)


def take(reach: Reach, dim: int, index: Positions) -> Reach:
    """Gather positions along `dim`; an untracked dimension keeps its fibre."""
    if not reach.tracked(dim):
        return reach
    return replace(
        reach,
        low=reach.low.take(index, dim),
        high=reach.high.take(index, dim),
        mark=reach.mark.take(index, dim),
    )


def windows(reach: Reach, dim: int, taps: Positions) -> Reach:
    """Join, for each position p along `dim`, the positions `taps[p, k]` that it reads.

    `taps` has shape (positions, taps); values below 0 (`ABSENT`, `PADDING`) read no
    position but show in the mark, so that a border is never taken for the interior.
    """
    if not reach.tracked(dim):
        return reach
    shape = (*reach.shape[:dim], *taps.shape, *reach.shape[dim + 1 :])
    index = np.maximum(taps, 0).ravel()
    sides = [1] * len(shape)
    sides[dim], sides[dim + 1] = taps.shape
    inside = (taps >= 0).reshape(sides)
    low = np.where(inside, reach.low.take(index, dim).reshape(shape), NOTHING)
    high = np.where(inside, reach.high.take(index, dim).reshape(shape), -NOTHING)
    outside = mix(np.zeros(sides, np.uint64), taps.reshape(sides), number("outside"))
    mark = np.where(inside, reach.mark.take(index, dim).reshape(shape), outside)
    low, high, mark = join(low, high, mark, dim + 1)
    return replace(
        reach,
        low=low.squeeze(dim + 1),
        high=high.squeeze(dim + 1),
        mark=mark.squeeze(dim + 1),
        even=tuple(flag and d != dim for d, flag in enumerate(reach.even)),
    )


def align(reach: Reach, shape: Sequence[int], ndim: int) -> tuple[Reach, tuple[int, ...]]:
    """Prepend dimensions of side 1 up to `ndim`, as broadcasting does; with the new shape."""
    extra = ndim - len(shape)
    sides = (1,) * extra + reach.shape
    return (
        replace(
            reach,
            low=reach.low.reshape(sides),
            high=reach.high.reshape(sides),
            mark=reach.mark.reshape(sides),
            even=(True,) * extra + reach.even,
        ),
        (1,) * extra + tuple(shape),
    )


def merge(parts: Sequence[tuple[Reach, Sequence[int]]], ndim: int) -> Reach:
    """Join tensors position by position under broadcasting; each part with its tensor's shape.

    Where one part tells positions apart along a dimension, the others are told apart there, too.
    """
    aligned = [align(reach, shape, ndim) for reach, shape in parts]
    for dim in range(ndim):
        if any(reach.tracked(dim) for reach, _ in aligned):
            aligned = [(spread(reach, dim, shape[dim]), shape) for reach, shape in aligned]
    reaches = [reach for reach, _ in aligned]
    sides = np.broadcast_shapes(*(reach.shape for reach in reaches))
    low, high, mark = join(
        np.stack([np.broadcast_to(reach.low, sides) for reach in reaches]),
        np.stack([np.broadcast_to(reach.high, sides) for reach in reaches]),
        np.stack([np.broadcast_to(reach.mark, sides) for reach in reaches]),
        0,
    )
    even = tuple(
        all(reach.even[dim] or shape[dim] == 1 for reach, shape in aligned) for dim in range(ndim)
    )
    return Reach(low[0], high[0], mark[0], even)
