"""The greatest and the least value over an extent: over all ranks where that is split."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from exactile.partition.beside import along
from exactile.partition.pointwise import pointwise
from exactile.partition.reduced import Dims, axes_along, dims_of, finished
from exactile.partition.refusal import Refused
from exactile.partition.registry import name_of, rule
from exactile.partition.tensor import SplitTensor, own_part


class _Greatest(torch.autograd.Function):
    """The maximum over `dims`, which stay with extent 1, of all ranks along `axes`.

    Its gradient goes to the first position that has it, in the order of memory, or in equal shares
    to all: PyTorch does the one in pooling, the other in reductions.
    """

    @staticmethod
    def forward(
        ctx: Any, local: Tensor, input: SplitTensor, dims: tuple[int, ...], first: bool
    ) -> Tensor:
        mesh, axes = input.mesh, axes_along(input, dims)
        if local.numel():
            made = local.amax(dims, keepdim=True)
        else:
            shape = [1 if dim in dims else side for dim, side in enumerate(local.shape)]
            made = local.new_full(shape, -torch.inf)
        mesh.all_reduce(made, axes, dist.ReduceOp.MAX)
        hits = local == made
        if first:
            order = _order(input, dims)
            far = torch.where(hits, order, prod(input.shape))
            least = made.new_full(made.shape, prod(input.shape), dtype=torch.int64)
            if local.numel():
                least = far.amin(dims, keepdim=True)
            mesh.all_reduce(least, axes, dist.ReduceOp.MIN)
            hits = hits & (order == least)
        count = hits.sum(dims, keepdim=True)
        mesh.all_reduce(count, axes, dist.ReduceOp.SUM)
        ctx.save_for_backward(hits, count)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hits, count = ctx.saved_tensors
        return hits * (gradient / count), None, None, None


def _order(input: SplitTensor, dims: Sequence[int]) -> Tensor:
    """Return for each position of the part its place among those of the whole."""
    made = torch.zeros((), dtype=torch.int64, device=input.local.device)
    step = 1
    for dim in reversed(dims):
        split = input.splits[dim]
        start = 0 if split is None else own_part(split, input.mesh).start
        places = torch.arange(input.local.shape[dim], device=made.device) + start
        made = made + step * places.reshape(-1, *(1,) * (input.dim() - 1 - dim))
        step *= input.shape[dim]
    return made


def greatest_of(
    input: Tensor, dim: Dims, *, keepdim: bool, first: bool = False, sign: int = 1
) -> Tensor:
    """Return the maximum over all ranks, or the minimum where `sign` is -1."""
    dims = dims_of(input, dim)
    assert isinstance(input, SplitTensor), "the first argument of a function of one is split"
    if not input.is_floating_point():
        raise Refused("it looks for an extreme of whole numbers over ranks; convert to float")
    local = input.local if sign > 0 else -input.local
    made: Tensor = _Greatest.apply(local, input, dims, first)  # type: ignore[no-untyped-call]
    return finished(made if sign > 0 else -made, input.splits, dims, keepdim, input.mesh)


@rule("amax")
def amax(func: Any, input: SplitTensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Return the maximum over all ranks."""
    return greatest_of(input, dim, keepdim=keepdim)


@rule("amin")
def amin(func: Any, input: SplitTensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Return the minimum over all ranks."""
    return greatest_of(input, dim, keepdim=keepdim, sign=-1)


@rule("max", "min")
def extreme(
    func: Any, input: Tensor, dim: Any = None, keepdim: bool = False, other: Any = None
) -> Any:
    """Return the extreme of all, of two tensors, or along a dimension that is not split."""
    greater = name_of(func) == "max"
    if other is not None:
        return pointwise(torch.maximum if greater else torch.minimum, input, other)
    if dim is None:
        return greatest_of(input, None, keepdim=False, sign=1 if greater else -1)
    return along(torch.max if greater else torch.min, input, dim, keepdim)
