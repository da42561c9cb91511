"""Reductions: over axes that are split, over all ranks along them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from exactile.partition.align import whole
from exactile.partition.exchange import enter, greatest, total
from exactile.partition.layout import Layout
from exactile.partition.mesh import Mesh
from exactile.partition.pointwise import pointwise
from exactile.partition.refusal import Refused
from exactile.partition.registry import rule
from exactile.partition.tensor import SplitTensor, own_part, wrap

Dims = int | Sequence[int] | None


def dims_of(input: Tensor, dim: Dims) -> tuple[int, ...]:
    """Return the dimensions to reduce, counted from the first; all where none are given."""
    given = (dim,) if isinstance(dim, int) else tuple(dim or range(input.dim()))
    return tuple(sorted(each % input.dim() for each in given))


def axes_along(input: SplitTensor, dims: Sequence[int]) -> tuple[int, ...]:
    """Return the axes of the mesh that any of `dims` is split along."""
    splits = (input.splits[dim] for dim in dims)
    return tuple(split.axis for split in splits if split is not None)


def wide(tensor: Tensor) -> Tensor:
    """Return the tensor in the precision that sums of its type are made in."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def moments(
    local: Tensor, dims: Sequence[int], count: int, mesh: Mesh, axes: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return differences from the mean, the mean, and the sum of squared differences.

    `count` is how many values of the whole are reduced. The dimensions stay, with extent 1.
    """
    centre = total(local.sum(tuple(dims), keepdim=True), mesh, axes) / count
    apart = local - enter(centre, mesh, axes)
    return apart, centre, total(apart.square().sum(tuple(dims), keepdim=True), mesh, axes)


def finished(
    made: Tensor, layout: Layout, dims: Sequence[int], keepdim: bool, mesh: Mesh
) -> Tensor:
    """Return a result whose reduced dimensions are still there, with or without them."""
    left = [None if dim in dims else split for dim, split in enumerate(layout)]
    if not keepdim:
        made = made.squeeze(tuple(dims)) if dims else made
        left = [split for dim, split in enumerate(left) if dim not in dims]
    return wrap(made, left, mesh)


@rule("sum")
def summed(
    func: Any, input: SplitTensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """Add up the part, then the sums of the ranks."""
    dims = dims_of(input, dim)
    local = input.local.sum(dims, keepdim=True, dtype=dtype or wide(input.local).dtype)
    made = total(local, input.mesh, axes_along(input, dims))
    kept = dtype or (input.dtype if input.dtype.is_floating_point else made.dtype)
    return finished(made.to(kept), input.splits, dims, keepdim, input.mesh)


@rule("mean")
def mean(
    func: Any, input: SplitTensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """Divide the sum by the count of the whole."""
    dims = dims_of(input, dim)
    local = wide(input.local if dtype is None else input.local.to(dtype))
    made = total(local.sum(dims, keepdim=True), input.mesh, axes_along(input, dims))
    made = made / prod(input.shape[each] for each in dims)
    return finished(made.to(dtype or input.dtype), input.splits, dims, keepdim, input.mesh)


def _variance(
    input: SplitTensor, dim: Any, unbiased: bool, keepdim: bool, correction: float | None
) -> Tensor:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    dims = dims_of(input, dim)
    count = prod(input.shape[each] for each in dims)
    axes = axes_along(input, dims)
    _, _, squares = moments(wide(input.local), dims, count, input.mesh, axes)
    less = float(unbiased) if correction is None else correction
    made = (squares / (count - less)).to(input.dtype)
    return finished(made, input.splits, dims, keepdim, input.mesh)


@rule("var")
def variance(
    func: Any,
    input: SplitTensor,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Add up squared differences from the mean of all ranks."""
    return _variance(input, dim, unbiased, keepdim, correction)


@rule("std")
def deviation(
    func: Any,
    input: SplitTensor,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Return the root of the variance."""
    return torch.sqrt(_variance(input, dim, unbiased, keepdim, correction))


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
    input: SplitTensor, dim: Dims, *, keepdim: bool, first: bool = False, sign: int = 1
) -> Tensor:
    """Return the maximum over all ranks, or the minimum where `sign` is -1."""
    dims = dims_of(input, dim)
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
def extreme(func: Any, input: Any, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
    """Return the extreme of all, of two tensors, or along a dimension that is not split."""
    other = kwargs.pop("other", dim)
    if isinstance(other, Tensor):
        both = torch.maximum if func.__name__ == "max" else torch.minimum
        return pointwise(both, input, other)
    if dim is None:
        return greatest_of(input, None, keepdim=False, sign=1 if func.__name__ == "max" else -1)
    return along(func, input, dim, keepdim)


@rule("argmax", "argmin", "logsumexp", "prod", "any", "all", "median", "norm")
def along(func: Any, input: SplitTensor, dim: Any = None, keepdim: bool = False) -> Any:
    """Reduce dimensions that are not split, which needs no other rank."""
    dims = dims_of(input, dim)
    whole(input, dims, "looks")
    made = func(input.local, dim, keepdim=keepdim)
    layout = [None if at in dims else split for at, split in enumerate(input.splits)]
    if not keepdim:
        layout = [split for at, split in enumerate(layout) if at not in dims]
    if isinstance(made, tuple):
        return tuple(wrap(part, layout, input.mesh) for part in made)
    return wrap(made, layout, input.mesh)


@rule("softmax", "log_softmax")
def softmax(
    func: Any, input: SplitTensor, dim: int | None = None, _stacklevel: Any = 3, dtype: Any = None
) -> Tensor:
    """Subtract the maximum of all ranks, and divide by the sum over all ranks."""
    if isinstance(_stacklevel, torch.dtype):
        dtype = _stacklevel
    if dim is None:
        raise Refused("it is not told the dimension; give dim")
    local = input.local if dtype is None else input.local.to(dtype)
    at = dim % input.dim()
    split = input.splits[at]
    if split is None:
        return wrap(func(local, dim), input.splits, input.mesh)
    kept, local = local.dtype, wide(local)
    shape = list(local.shape)
    shape[at] = 1
    top = local.amax(at, keepdim=True) if local.numel() else local.new_full(shape, -torch.inf)
    apart = local - greatest(top, input.mesh, (split.axis,))
    powers = apart.exp()
    sums = total(powers.sum(at, keepdim=True), input.mesh, (split.axis,))
    sums = enter(sums, input.mesh, (split.axis,))
    made = powers / sums if func.__name__ == "softmax" else apart - sums.log()
    return wrap(made.to(kept), input.splits, input.mesh)


@rule("normalize")
def normalize(
    func: Any, input: SplitTensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12
) -> Tensor:
    """Divide by a norm along a dimension that is not split."""
    whole(input, [dim], "takes a norm")
    return wrap(func(input.local, p, dim, eps), input.splits, input.mesh)
