"""Operators that put tensors together: concatenation, stacking, writing into a part.

Each output position takes the reach of the position that it is copied from. Where only fibres are
joined (channels), the result gets a mark of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from exactile.locality.reach import Positions, Reach, fold, merge, salted, spread
from exactile.locality.refusal import Refused
from exactile.locality.registry import Call, rule
from exactile.locality.reshaping import reshape
from exactile.locality.shape import slice_index

Entry = TypeVar("Entry", bound=np.generic)


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
