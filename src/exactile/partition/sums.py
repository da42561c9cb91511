"""Sums and moments over the extents of a part, and of all parts, in float64.

PyTorch adds up float32 in float32, and on some layouts one value after the other: of a map of
16 million positions as many as five digits are lost, and how many depends on how the map is cut.
Here a part is added up in blocks that fit a cache, each in float64; what the blocks give is put
together by the formulas of Chan, Golub and LeVeque (1983), and so is what the parts give. Whatever
the layout, the number of values and of parts, the statistics are those of exact arithmetic to
within `DIGITS` of the greatest value, so that float32 gets the same numbers to the last unit.

The sums are operators of their own. Dispatch modes see each as one call that reads a part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from exactile.partition.exchange import total
from exactile.partition.mesh import Mesh

DIGITS = 1e-12
"""The statistics differ from those of exact arithmetic by less than this, relative to the greatest
value, and so do those of the same values in other parts from each other."""

BLOCK, BLOCK_ON_GPU = 2**18, 2**26
"""Values that are widened at a time: float64 of them fit the second cache of a CPU."""


def wide(tensor: Tensor) -> Tensor:
    """Return the tensor in the precision that results of its type are computed in."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def added(local: Tensor, dims: Sequence[int]) -> Tensor:
    """Return the sums over `dims`, which stay with extent 1, in float64."""
    made: Tensor = _Added.apply(local, tuple(dims))  # type: ignore[no-untyped-call]
    return made


def moments(
    local: Tensor, dims: Sequence[int], count: int, mesh: Mesh, axes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return the mean and the sum of squared differences from it, of all ranks, in float64.

    `count` is how many values of the whole are reduced. The dimensions stay, with extent 1.
    """
    made: tuple[Tensor, Tensor] = _Moments.apply(local, tuple(dims), count, mesh, tuple(axes))  # type: ignore[no-untyped-call]
    return made


def joined(
    means: Tensor, squares: Tensor, count: int, dims: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return the moments of what lies along `dims` together, each of `count` values."""
    mean = means.mean(tuple(dims), keepdim=True)
    spread = (means - mean).square_().mul_(count)
    return mean, (squares + spread).sum(tuple(dims), keepdim=True)


def moments_of_all(
    local: Tensor,
    dims: Sequence[int],
    count: int,
    mesh: Mesh,
    axes: Sequence[int],
    groups: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return what `moments` does, without gradients; with `groups`, of channels taken together.

    `groups` cuts dimension 1, which is not among `dims`. Every channel gets its group's moments,
    and `count` is of a group.
    """
    mean, squares = torch.ops.exactile.moments(local, list(dims))
    mine = prod(local.shape[dim] for dim in dims)
    if groups is not None:
        shape = (mean.shape[0], groups, -1, *mean.shape[2:])
        mean, squares = joined(mean.reshape(shape), squares.reshape(shape), mine, [2])
        mine *= local.shape[1] // groups
    if axes:
        here, mean = mean, total(mean * mine, mesh, axes) / count
        squares = total(squares + (here - mean).square_().mul_(mine), mesh, axes)
    if groups is not None:
        shape = (-1, groups, local.shape[1] // groups, *mean.shape[3:])
        mean, squares = (each.expand(shape).flatten(1, 2) for each in (mean, squares))
    return mean, squares


class _Added(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor, dims: tuple[int, ...]) -> Tensor:
        ctx.shape, ctx.type = local.shape, local.dtype
        made: Tensor = torch.ops.exactile.added(local, list(dims))
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient.to(ctx.type).expand(ctx.shape), None


class _Moments(torch.autograd.Function):
    """The gradient of the sum of squares by the mean is zero, so each has its own alone."""

    @staticmethod
    def forward(
        ctx: Any,
        local: Tensor,
        dims: tuple[int, ...],
        count: int,
        mesh: Mesh,
        axes: tuple[int, ...],
    ) -> tuple[Tensor, Tensor]:
        mean, squares = moments_of_all(local, dims, count, mesh, axes)
        ctx.save_for_backward(local, mean)
        ctx.count = count
        return mean, squares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, for_mean: Tensor, for_squares: Tensor) -> tuple[Tensor | None, ...]:
        local, mean = ctx.saved_tensors
        kind = wide(local).dtype
        slope = (local - mean.to(kind)).mul_(2 * for_squares.to(kind))
        return slope.add_((for_mean / ctx.count).to(kind)).to(local.dtype), *(None,) * 4


def _most(values: Tensor) -> int:
    return BLOCK if values.device.type == "cpu" else BLOCK_ON_GPU


def _blocks(tensor: Tensor, dims: Sequence[int], most: int) -> Iterator[Tensor]:
    """Yield runs of memory of about `most` values, cut along the outermost of `dims`."""
    cuttable = sorted((d for d in dims if tensor.shape[d] > 1), key=tensor.stride, reverse=True)
    if tensor.numel() <= most or not cuttable:
        yield tensor
        return
    along, *rest = cuttable
    step = max(1, most * tensor.shape[along] // tensor.numel())
    for block in torch.split(tensor, step, along):
        yield from _blocks(block, rest, most)


def _added(values: Tensor, dims: Sequence[int]) -> Tensor:
    over, shape = tuple(dims), [1 if d in dims else n for d, n in enumerate(values.shape)]
    made = values.new_zeros(shape, dtype=torch.float64)
    if not dims:
        return values.to(torch.float64, copy=True)
    if values.numel():
        for block in _blocks(values, dims, _most(values)):
            made += block.sum(over, keepdim=True, dtype=torch.float64)
    return made


def _moments(values: Tensor, dims: Sequence[int]) -> tuple[Tensor, Tensor]:
    over, shape = tuple(dims), [1 if d in dims else n for d, n in enumerate(values.shape)]
    mean = values.new_zeros(shape, dtype=torch.float64)
    squares, count = torch.zeros_like(mean), 0
    if not dims:
        return values.to(torch.float64, copy=True), squares
    if not values.numel():
        return mean, squares
    for block in _blocks(values, dims, _most(values)):
        apart = block.to(torch.float64, copy=True)
        more = prod(block.shape[dim] for dim in dims)
        centre = apart.mean(over, keepdim=True)
        squares += apart.sub_(centre).square_().sum(over, keepdim=True)
        # The first block's mean is exact so; later ones move it by their share.
        move, before, count = centre - mean, count, count + more
        mean += move * (more / count)
        squares += move.square_().mul_(before * more / count)
    return mean, squares


# Not by `custom_op`, the first call of which imports the compiler: two seconds for every rank.
_OPERATORS = torch.library.Library("exactile", "DEF")  # type: ignore[no-untyped-call]
for _schema, _function in (
    ("added(Tensor values, int[] dims) -> Tensor", _added),
    ("moments(Tensor values, int[] dims) -> (Tensor, Tensor)", _moments),
):
    _OPERATORS.define(_schema)  # type: ignore[no-untyped-call]
    _OPERATORS.impl(  # type: ignore[no-untyped-call]
        _schema.partition("(")[0], _function, "CompositeExplicitAutograd"
    )
