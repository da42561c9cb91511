"""Operators along dimensions that are not split, which need no other rank, and counts of truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from exactile.partition.align import whole
from exactile.partition.exchange import total
from exactile.partition.nested import mapped
from exactile.partition.reduced import Dims, axes_along, dims_of, finished
from exactile.partition.registry import name_of, rule
from exactile.partition.tensor import SplitTensor, wrap


@rule("any", "all")
def truth(func: Any, input: SplitTensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Count what is true, or what is not, of all ranks."""
    dims, some = dims_of(input, dim), name_of(func) == "any"
    found = input.local.bool() if some else ~input.local.bool()
    count = total(found.sum(dims, keepdim=True), input.mesh, axes_along(input, dims))
    return finished(count > 0 if some else count == 0, input.splits, dims, keepdim, input.mesh)


@rule("argmax", "argmin", "prod", "median")
def along(
    func: Any, input: Tensor, dim: Dims = None, keepdim: bool = False, dtype: Any = None
) -> Any:
    """Reduce dimensions that are not split."""
    assert isinstance(input, SplitTensor), "the first argument of a function of one is split"
    dims = dims_of(input, dim)
    whole(input, dims, "looks")
    reduce = getattr(torch, name_of(func))
    typed = {} if dtype is None else {"dtype": dtype}
    where = () if dim is None else (dim, keepdim)
    made = reduce(input.local, *where, **typed)
    layout = [None if at in dims else split for at, split in enumerate(input.splits)]
    if not keepdim:
        layout = [split for at, split in enumerate(layout) if at not in dims]
    return mapped(made, lambda part: wrap(part, layout, input.mesh))


@rule("chunk", "unsafe_chunk")
def chunk(func: Any, input: SplitTensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Cut a dimension into so many parts."""
    return _cut(input, input.local.chunk(chunks, dim), dim)


@rule("split", "unsafe_split", "split_with_sizes", "unsafe_split_with_sizes")
def split(
    func: Any, input: SplitTensor, split_size: int | list[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """Cut a dimension into parts of such sizes."""
    return _cut(input, torch.split(input.local, split_size, dim), dim)


def _cut(input: SplitTensor, parts: Sequence[Tensor], dim: int) -> tuple[Tensor, ...]:
    whole(input, [dim], "cuts")
    return tuple(wrap(part, input.splits, input.mesh) for part in parts)


@rule("unbind")
def unbind(func: Any, input: SplitTensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Take all positions of a dimension one by one."""
    whole(input, [dim], "takes positions")
    layout = [split for at, split in enumerate(input.splits) if at != dim % input.dim()]
    return tuple(wrap(part, layout, input.mesh) for part in input.local.unbind(dim))


@rule("cumsum", "cumprod")
def scan(func: Any, input: SplitTensor, dim: int, dtype: Any = None) -> Tensor:
    """Run along a dimension."""
    whole(input, [dim], "runs")
    made = getattr(torch, name_of(func))(input.local, dim, dtype=dtype)
    return wrap(made, input.splits, input.mesh)


@rule("glu")
def glu(func: Any, input: SplitTensor, dim: int = -1) -> Tensor:
    """Gate one half of a dimension by the other."""
    whole(input, [dim], "gates")
    return wrap(F.glu(input.local, dim), input.splits, input.mesh)
