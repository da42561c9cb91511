"""Functions whose vectorised loop leaves a scalar remainder, computed on whole vectors.

The loop and its remainder use different approximations, and where the remainder lies follows from
the tensor's size, its layout and the number of threads. Here each tensor is laid out as one row of
memory; what does not fill the vectors of every thread is filled up with ones:

    values     |--------------------------------|-----|
    computed   |  a multiple of all the vectors  ------ 1 1 1 |

Then every value goes through the vectorised loop, which was measured to treat its lanes alike,
whatever lies beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from exactile.fixed_order.registry import Replacement, replaces

aten = torch.ops.aten

VECTORS = 64
"""Values of a step of the loop, at least: twice the widest vector of bfloat16."""

GRAIN = 32768
"""Values below which PyTorch gives an element-wise operator no further thread."""

EXACT_POWERS = (1, 2, 3)
"""Exponents for which there are products, which are rounded alike everywhere."""


def whole(count: int, threads: int) -> int:
    """Return the most of `count` values that fill the vectors of as many threads as they get.

    >>> whole(100, 4), whole(40_000, 4), whole(1_000_000, 3)
    (64, 39936, 999936)
    """
    filled = count - count % VECTORS
    while filled:
        step = VECTORS * min(threads, -(-filled // GRAIN))
        if filled % step == 0:
            break
        filled -= filled % step
    return filled


def on_whole_vectors(operator: Any, tensors: Sequence[Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """Return `operator` of `tensors`, which are broadcast; those of no dimension are numbers."""
    shape = torch.broadcast_shapes(*(t.shape for t in tensors))  # type: ignore[no-untyped-call]
    given = [tensor.expand(shape) if tensor.ndim else tensor for tensor in tensors]
    first = next(tensor for tensor in given if tensor.ndim)
    strides = first.stride()
    order = sorted(range(first.ndim), key=lambda dim: (-strides[dim], dim))
    rows = [t.permute(order).contiguous().view(-1) if t.ndim else t for t in given]
    count = first.numel()
    filled = whole(count, torch.get_num_threads())
    tails = [
        pad(r[filled:], (0, -(count - filled) % VECTORS), value=1) if r.ndim else r for r in rows
    ]
    tail: Tensor = operator(*tails, *args, **kwargs)[: count - filled]
    if filled:
        heads = [row[:filled] if row.ndim else row for row in rows]
        tail = torch.cat([operator(*heads, *args, **kwargs), tail])
    sides = [first.shape[dim] for dim in order]
    back = [order.index(dim) for dim in range(first.ndim)]
    return tail.view(sides).permute(back)


def _replacement(operator: Any) -> Replacement:
    """Return what computes `operator` on whole vectors: all its first arguments may be tensors."""

    def anew(*args: Any, **kwargs: Any) -> Any:
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        if not any(tensor.ndim for tensor in tensors):
            return NotImplemented
        places = [place for place, arg in enumerate(args) if isinstance(arg, Tensor)]

        def placed(*values: Tensor) -> Tensor:
            full = list(args)
            for place, value in zip(places, values, strict=True):
                full[place] = value
            result: Tensor = operator(*full, **kwargs)
            return result

        return on_whole_vectors(placed, tensors)

    return anew


def _register(operator: Any, in_place: Any = None) -> None:
    compute = replaces(operator)(_replacement(operator))
    if in_place is None:
        return

    @replaces(in_place)
    def written(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        made = compute(x, *args, **kwargs)
        return made if made is NotImplemented else x.copy_(made)


_register(aten.pow.Scalar)
_register(aten.pow.Tensor_Tensor, aten.pow_.Tensor)
_register(aten.atan2.default, aten.atan2_.default)
_register(aten.logaddexp.default)
_register(aten.logaddexp2.default)
for _name in ("exp2", "sinh", "cosh", "atanh", "logit"):
    _register(getattr(aten, _name).default, getattr(aten, f"{_name}_").default)


@replaces(aten.pow.Tensor_Scalar)
def _power(x: Tensor, exponent: float) -> Any:
    if exponent in EXACT_POWERS:
        return NotImplemented
    return _replacement(aten.pow.Tensor_Scalar)(x, exponent)


@replaces(aten.pow_.Scalar)
def _power_in_place(x: Tensor, exponent: float) -> Any:
    made = _power(x, exponent)
    return made if made is NotImplemented else x.copy_(made)


def _scaled(operator: Any, in_place: Any) -> None:
    """Register a sum with a factor, which bfloat16 rounds otherwise in the remainder."""
    compute = _replacement(operator)

    @replaces(operator)
    def anew(x: Tensor, other: Any, *, alpha: float = 1) -> Any:
        if alpha == 1 or x.dtype != torch.bfloat16:
            return NotImplemented
        return compute(x, other, alpha=alpha)

    @replaces(in_place)
    def written(x: Tensor, other: Any, *, alpha: float = 1) -> Any:
        made = anew(x, other, alpha=alpha)
        return made if made is NotImplemented else x.copy_(made)


_scaled(aten.add.Tensor, aten.add_.Tensor)
_scaled(aten.sub.Tensor, aten.sub_.Tensor)
