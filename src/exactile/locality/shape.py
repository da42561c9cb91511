"""Operators that move values without computing: views, slices, concatenation.

Each output position takes the reach of the position that it is copied from. Where only fibres are
cut or joined (channels), the result gets a mark of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from exactile.locality.reach import (
    Positions,
    Reach,
    align,
    fold,
    merge,
    number,
    salted,
    spread,
    take,
)
from exactile.locality.refusal import Refused
from exactile.locality.registry import Call, rule
from exactile.locality.reshaping import closed, reshape

Entry = TypeVar("Entry", bound=np.generic)

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
    """Return the reach with its dimensions in another order."""
    return replace(
        reach,
        low=reach.low.transpose(order),
        high=reach.high.transpose(order),
        mark=reach.mark.transpose(order),
        even=tuple(reach.even[dim] for dim in order),
    )


def cut(reach: Reach, dim: int, size: int, index: Positions, salt: np.uint64) -> Reach:
    """Take the positions `index` of `size` along `dim`, of fibres as well."""
    if reach.tracked(dim):
        return closed(take(reach, dim, index), dim)
    whole = len(index) == size and bool((index == np.arange(size)).all())
    return reach if whole or reach.even[dim] else salted(reach, salt)


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


def concatenate(parts: Sequence[tuple[Reach, tuple[int, ...]]], dim: int, salt: np.uint64) -> Reach:
    """Join tensors along `dim`; each part comes with its tensor's shape."""
    ndim = len(parts[0][1])
    if not any(reach.tracked(dim) for reach, _ in parts):
        joined = salted(merge(parts, ndim), salt)
        return replace(joined, even=tuple(e and d != dim for d, e in enumerate(joined.even)))
    for other in range(ndim):
        if other == dim or any(reach.tracked(other) for reach, _ in parts):
            parts = [(spread(reach, other, sizes[other]), sizes) for reach, sizes in parts]
    even = tuple(all(reach.even[d] for reach, _ in parts) and d != dim for d in range(ndim))
    return Reach(
        np.concatenate([reach.low for reach, _ in parts], dim),
        np.concatenate([reach.high for reach, _ in parts], dim),
        np.concatenate([reach.mark for reach, _ in parts], dim),
        even,
    )


def listed(call: Call) -> list[tuple[Reach, tuple[int, ...]]]:
    """Return the reach and shape of every tensor of the call's list."""
    if any(reach.pooled is not None for reach in call.reaches):
        raise Refused("it joins the indices of max-poolings; keep them apart")
    shapes = [tuple(tensor.shape) for tensor in call.tensors]
    return list(zip(call.reaches, shapes, strict=True))


@rule("cat", "concat", "concatenate")
def cat(call: Call) -> Reach:
    """Join along an existing dimension; parts without elements are left out."""
    dim = call["dim"] % call.output.ndim
    parts = [(reach, shape) for reach, shape in listed(call) if shape != (0,)]
    return concatenate(parts, dim, call.salt)


@rule("stack")
def stack(call: Call) -> Reach:
    """Join along a new dimension."""
    dim = call["dim"] % call.output.ndim
    parts = []
    for reach, shape in listed(call):
        single = (*shape[:dim], 1, *shape[dim:])
        parts.append((reshape(reach, shape, single), single))
    return concatenate(parts, dim, call.salt)


@rule("slice_scatter")
def slice_scatter(call: Call) -> Reach:
    """Put a source in the place of a slice."""
    sizes = call.shape("self")
    dim = call["dim"] % len(sizes)
    return scatter(call, dim, slice_index(call, sizes[dim]), call.shape("src"))


@rule("select_scatter")
def select_scatter(call: Call) -> Reach:
    """Put a source in the place of one position."""
    sizes = call.shape("self")
    dim = call["dim"] % len(sizes)
    single = tuple(1 if d == dim else side for d, side in enumerate(sizes))
    return scatter(call, dim, np.array([call["index"] % sizes[dim]], dtype=np.int64), single)


def overwritten(
    below: NDArray[Entry], above: NDArray[Entry], sides: tuple[int, ...], dim: int, index: Positions
) -> NDArray[Entry]:
    """Return `below` broadcast to `sides`, with `above` at the positions `index` along `dim`."""
    array = np.broadcast_to(below, sides).copy()
    array[(slice(None),) * dim + (index,)] = above
    return array


def scatter(call: Call, dim: int, index: Positions, shape: tuple[int, ...]) -> Reach:
    """Put a source, viewed in `shape`, at the positions `index` along `dim`."""
    sizes = call.shape("self")
    base = call.reach("self")
    written = reshape(call.reach("src"), call.shape("src"), shape)
    if len(index) == sizes[dim]:
        return written
    if not (base.tracked(dim) or written.tracked(dim) or base.even[dim]):
        joined = salted(
            merge(
                [(base, sizes), (fold(written, [dim]), (*shape[:dim], 1, *shape[dim + 1 :]))],
                len(sizes),
            ),
            call.salt,
        )
        return replace(joined, even=tuple(e and d != dim for d, e in enumerate(joined.even)))
    for other in range(len(sizes)):
        if other == dim or base.tracked(other) or written.tracked(other):
            base = spread(base, other, sizes[other])
            written = spread(written, other, shape[other])
    sides = np.broadcast_shapes(
        base.shape, tuple(sizes[dim] if d == dim else s for d, s in enumerate(written.shape))
    )
    even = tuple(
        a and b and d != dim for d, (a, b) in enumerate(zip(base.even, written.even, strict=True))
    )
    return Reach(
        overwritten(base.low, written.low, sides, dim, index),
        overwritten(base.high, written.high, sides, dim, index),
        overwritten(base.mark, written.mark, sides, dim, index),
        even,
    )


@rule("flip")
def flip(call: Call) -> Reach:
    """Reverse positions: harmless on channels, without period on an axis of the image."""
    reach, sizes = call.reach("self"), call.shape("self")
    for dim in call["dims"]:
        reach = cut(reach, dim, sizes[dim], np.arange(sizes[dim], dtype=np.int64)[::-1], call.salt)
    return reach


@rule("roll")
def roll(call: Call) -> Reach:
    """Move positions around the end; wraps, so an axis of the image becomes a ring."""
    reach, sizes = call.reach("self"), call.shape("self")
    if not call["dims"]:
        raise Refused("it rolls the flattened tensor; name the dimensions to roll")
    for dim, shift in zip(call["dims"], call["shifts"], strict=True):
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
