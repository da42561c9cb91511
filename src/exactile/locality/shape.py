"""Operators that move values of one tensor without computing: views, slices, shifts.

Each output position takes the reach of the position that it is copied from. Where only fibres are
cut (channels), the result gets a mark of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from exactile.locality.reach import (
    Positions,
    Reach,
    align,
    number,
    salted,
    take,
)
from exactile.locality.refusal import Refused
from exactile.locality.registry import Call, rule
from exactile.locality.reshaping import closed, reshape

SAME = (
    "alias",
    "contiguous",
    "detach",
    "lift",
    "lift_fresh",
    "lift_fresh_copy",
    "_to_copy",
    "as_strided_",
)


def transposed(reach: Reach, order: Sequence[int]) -> Reach:
    """Return the reach with its dimensions in another order.

    Where fibres change places, the values of a position are others: that gets a mark of its own.
    """
    fibres = [dim for dim in order if not (reach.tracked(dim) or reach.even[dim])]
    moved = replace(
        reach,
        low=reach.low.transpose(order),
        high=reach.high.transpose(order),
        mark=reach.mark.transpose(order),
        even=tuple(reach.even[dim] for dim in order),
    )
    ranks = [sorted(fibres).index(dim) for dim in fibres]
    return salted(moved, number("transposed", ranks)) if ranks != sorted(ranks) else moved


def cut(reach: Reach, dim: int, size: int, index: Positions, salt: np.uint64) -> Reach:
    """Take the positions `index` of `size` along `dim`, of fibres as well."""
    if reach.tracked(dim):
        return closed(take(reach, dim, index), dim)
    whole = len(index) == size and bool((index == np.arange(size)).all())
    if whole or reach.even[dim]:
        return reach
    return salted(reach, number(int(salt), from_ends(index, size)))


def from_ends(index: Positions, size: int) -> list[object]:
    """Return what a selection takes, counted from both ends: its runs, and how far they go.

    Axes of the image that a run does not follow are fibres, too: one crop, or one reflection, is
    the same at every size of theirs, so the length of the longest run is left out.
    """
    if not len(index):
        return []
    steps = np.diff(index)
    starts = np.flatnonzero(np.diff(steps, prepend=np.iinfo(np.int64).max))
    lengths = np.diff(starts, append=len(steps)).tolist()
    runs = [
        [int(steps[start]), length] for start, length in zip(starts.tolist(), lengths, strict=True)
    ]
    longest = max(runs, key=lambda run: run[1], default=[0, 0])
    if longest[0] != 0:
        longest[1] = -1
    return [int(index[0]), size - 1 - int(index[-1]), *runs]


@rule("permute")
def permute(call: Call) -> Reach:
    """Reorder the dimensions."""
    reach = call.reach("self")
    return transposed(reach, [dim % reach.low.ndim for dim in call["dims"]])


@rule("transpose")
def transpose(call: Call) -> Reach:
    """Swap two dimensions."""
    reach = call.reach("self")
    order = list(range(reach.low.ndim))
    first, second = call["dim0"], call["dim1"]
    order[first], order[second] = order[second], order[first]
    return transposed(reach, order)


@rule("t", "numpy_T")
def reverse_dimensions(call: Call) -> Reach:
    """Reverse the order of the dimensions."""
    reach = call.reach("self")
    return transposed(reach, list(range(reach.low.ndim))[::-1])


@rule("unsqueeze", "squeeze")
def single_dimension(call: Call) -> Reach:
    """Add or drop a dimension of side 1; indices of a pooling stay what they are."""
    return reshape(call.reaches[0], call.shape("self"), call.output.shape)


@rule("view", "_unsafe_view", "reshape", "_reshape_alias")
def view(call: Call) -> Reach:
    """Keep the order of the elements under another shape."""
    return reshape(call.reach("self"), call.shape("self"), call.output.shape)


@rule(*SAME)
def same(call: Call) -> Reach:
    """Every position keeps its value (or its value in another type)."""
    return call.reaches[0]


@rule("expand")
def expand(call: Call) -> Reach:
    """Repeat dimensions of side 1: their values become even."""
    shape = tuple(call.output.shape)
    reach, sizes = align(call.reach("self"), call.shape("self"), len(shape))
    even = tuple(flag or sizes[dim] == 1 for dim, flag in enumerate(reach.even))
    return replace(reach, even=even)


@rule("repeat")
def repeat(call: Call) -> Reach:
    """Lay copies side by side."""
    shape = tuple(call.output.shape)
    reach, sizes = align(call.reach("self"), call.shape("self"), len(shape))
    for dim, size in enumerate(sizes):
        reach = take(reach, dim, np.arange(shape[dim], dtype=np.int64) % size)
    even = tuple(
        sizes[dim] == 1 or (flag and sizes[dim] == shape[dim])
        for dim, flag in enumerate(reach.even)
    )
    return salted(replace(reach, even=even), call.salt)


def slice_index(call: Call, size: int) -> Positions:
    """Return the positions that the call's start, end and step select."""
    chosen = slice(call["start"], call["end"], call["step"])
    return np.arange(size, dtype=np.int64)[chosen]


@rule("slice")
def slice_(call: Call) -> Reach:
    """Select every step-th position from start to end."""
    reach, sizes = call.reach("self"), call.shape("self")
    dim = call["dim"] % len(sizes)
    return cut(reach, dim, sizes[dim], slice_index(call, sizes[dim]), call.salt)


@rule("select")
def select(call: Call) -> Reach:
    """Select one position and drop the dimension."""
    reach, sizes = call.reach("self"), call.shape("self")
    dim = call["dim"] % len(sizes)
    index = np.array([call["index"] % sizes[dim]], dtype=np.int64)
    chosen = cut(reach, dim, sizes[dim], index, mix_index(call.salt, call["index"]))
    kept = [side for d, side in enumerate(sizes) if d != dim]
    single = [1 if d == dim else side for d, side in enumerate(sizes)]
    return reshape(chosen, single, kept)


def mix_index(salt: np.uint64, index: int) -> np.uint64:
    """Return a number for one of several outputs of a call."""
    return number(int(salt), index)


@rule(
    "split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk"
)
def split(call: Call) -> tuple[Reach, ...]:
    """Cut into consecutive parts."""
    reach, sizes = call.reach("self"), call.shape("self")
    dim = call["dim"] % len(sizes)
    parts, start = [], 0
    for place, output in enumerate(call.outputs):
        index = np.arange(start, start + output.shape[dim], dtype=np.int64)
        parts.append(cut(reach, dim, sizes[dim], index, mix_index(call.salt, place)))
        start += output.shape[dim]
    return tuple(parts)


@rule("unbind")
def unbind(call: Call) -> tuple[Reach, ...]:
    """Cut into single positions and drop the dimension."""
    reach, sizes = call.reach("self"), call.shape("self")
    dim = call["dim"] % len(sizes)
    single = [1 if d == dim else side for d, side in enumerate(sizes)]
    kept = [side for d, side in enumerate(sizes) if d != dim]
    return tuple(
        reshape(
            cut(reach, dim, sizes[dim], np.array([place]), mix_index(call.salt, place)),
            single,
            kept,
        )
        for place in range(sizes[dim])
    )


@rule("flip")
def flip(call: Call) -> Reach:
    """Reverse positions: harmless on channels, without period on an axis of the image."""
    reach, sizes = call.reach("self"), call.shape("self")
    for dim in call["dims"]:
        reach = cut(reach, dim, sizes[dim], np.arange(sizes[dim], dtype=np.int64)[::-1], call.salt)
    return reach


@rule("rot90")
def quarter_turns(call: Call) -> Reach:
    """Swap two dimensions and reverse one, or reverse both."""
    reach, sizes = call.reach("self"), list(call.shape("self"))
    first, second = (dim % len(sizes) for dim in call["dims"])
    order = list(range(len(sizes)))
    order[first], order[second] = second, first
    turns = call["k"] % 4
    if turns == 3:
        reach = transposed(reach, order)
        sizes[first], sizes[second] = sizes[second], sizes[first]
    for dim in {0: (), 1: (second,), 2: (first, second), 3: (second,)}[turns]:
        backwards = np.arange(sizes[dim], dtype=np.int64)[::-1]
        reach = cut(reach, dim, sizes[dim], backwards, call.salt)
    return transposed(reach, order) if turns == 1 else reach


@rule("roll")
def roll(call: Call) -> Reach:
    """Move positions around the end; wraps, so an axis that grows with the image is refused."""
    reach, sizes = call.reach("self"), call.shape("self")
    if not call["dims"]:
        raise Refused("it rolls the flattened tensor; name the dimensions to roll")
    for dim, shift in zip(call["dims"], call["shifts"], strict=True):
        if reach.tracked(dim) and call.grows("self", dim % len(sizes)):
            raise Refused(
                "it moves positions around the end of the image, so the first depend on the last "
                "(shifted windows do that, and their masks weaken the dependency to e^-100 without "
                "removing it); use windows that are not shifted, or convolutions"
            )
        index = (np.arange(sizes[dim], dtype=np.int64) - shift) % sizes[dim]
        reach = cut(reach, dim, sizes[dim], index, number(int(call.salt), shift))
    return reach


@rule("unfold")
def unfold(call: Call) -> Reach:
    """View sliding windows: position p of the new last dimension i reads p * step + i."""
    reach, sizes = call.reach("self"), call.shape("self")
    dim = call["dimension"] % len(sizes)
    count, size = call.output.shape[dim], call["size"]
    index = np.arange(count)[:, None] * call["step"] + np.arange(size)[None, :]
    if not reach.tracked(dim):
        parts = reshape(reach, sizes, (*sizes, 1))
        return salted(replace(parts, even=(*parts.even[:-1], size == 1)), call.salt)
    gathered = take(reach, dim, index.ravel())
    opened = (*sizes[:dim], count, size, *sizes[dim + 1 :])
    merged = (*sizes[:dim], count * size, *sizes[dim + 1 :])
    order = [d for d in range(len(opened)) if d != dim + 1] + [dim + 1]
    return transposed(reshape(gathered, merged, opened), order)
