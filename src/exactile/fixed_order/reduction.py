"""Softmax, sums and means along contiguous rows, where each row is a sum by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from exactile.fixed_order.registry import replaces

aten = torch.ops.aten


@replaces(aten._softmax.default)
def _softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    rows = aten._softmax.default(x.movedim(dim, -1).contiguous(), -1, half_to_float)
    result: Tensor = rows.movedim(-1, dim)
    return result


@replaces(aten._log_softmax.default)
def _log_softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    rows = aten._log_softmax.default(x.movedim(dim, -1).contiguous(), -1, half_to_float)
    result: Tensor = rows.movedim(-1, dim)
    return result


@replaces(aten.sum.dim_IntList)
def _sum(
    x: Tensor, dim: Sequence[int] | None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    rows, shape = _rows(x, dim, keepdim)
    return rows.sum(-1, dtype=dtype).view(shape)


@replaces(aten.mean.dim)
def _mean(
    x: Tensor, dim: Sequence[int] | None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    rows, shape = _rows(x, dim, keepdim)
    return rows.mean(-1, dtype=dtype).view(shape)


def _rows(x: Tensor, dim: Sequence[int] | None, keepdim: bool) -> tuple[Tensor, list[int]]:
    """Return `x` with what is reduced in contiguous rows, and the shape of the result."""
    reduced = {d % x.ndim for d in dim} if dim else set(range(x.ndim))
    kept = [d for d in range(x.ndim) if d not in reduced]
    rows = x.permute(*kept, *sorted(reduced)).flatten(len(kept)).contiguous()
    sides = [1 if d in reduced else n for d, n in enumerate(x.shape) if keepdim or d in kept]
    return rows, sides
