"""Sums, means, variances and norms: over axes that are split, over all ranks along them.

They are added up in float64 (`sums`), also where one part is the whole; few values of unsplit
dimensions, channels most often, are left to PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor

from exactile.partition.exchange import greatest, total
from exactile.partition.extremes import greatest_of
from exactile.partition.pointwise import pointwise
from exactile.partition.reduced import Dims, axes_along, count_of, dims_of, few, finished
from exactile.partition.refusal import Refused
from exactile.partition.registry import rule
from exactile.partition.sums import added, moments, wide
from exactile.partition.tensor import SplitTensor


def sum_of(input: SplitTensor, local: Tensor, dims: Sequence[int]) -> Tensor:
    """Return the sum of a part like `input`'s over `dims` of all ranks, in float64."""
    return total(added(local, dims), input.mesh, axes_along(input, dims))


@rule("sum", statistic=True)
def summed(
    func: Any, input: SplitTensor, dim: Dims = None, keepdim: bool = False, dtype: Any = None
) -> Tensor:
    """Add up the part, then the sums of the ranks."""
    dims = dims_of(input, dim)
    kept = dtype or (input.dtype if input.is_floating_point() else torch.int64)
    if few(input, dims) or not kept.is_floating_point:
        # Whole numbers have no digits to lose.
        local = input.local.sum(dims, keepdim=True, dtype=kept)
        made = total(local, input.mesh, axes_along(input, dims))
    else:
        made = sum_of(input, input.local, dims)
    return finished(made.to(kept), input.splits, dims, keepdim, input.mesh)


@rule("mean", statistic=True)
def mean(
    func: Any, input: SplitTensor, dim: Dims = None, keepdim: bool = False, dtype: Any = None
) -> Tensor:
    """Divide the sum by the count of the whole."""
    dims = dims_of(input, dim)
    if not (dtype or input.dtype).is_floating_point:
        raise Refused("it is of whole numbers, which have no mean; convert to float")
    if few(input, dims):
        made = input.local.mean(dims, keepdim=True, dtype=dtype)
    else:
        made = sum_of(input, input.local, dims) / count_of(input, dims)
    return finished(made.to(dtype or input.dtype), input.splits, dims, keepdim, input.mesh)


def _spread(
    input: SplitTensor,
    dim: Dims,
    unbiased: bool,
    keepdim: bool,
    correction: float | None,
    root: bool,
) -> tuple[Tensor, Tensor]:
    """Return the variance, or its root, and the mean."""
    dims = dims_of(input, dim)
    count, axes = count_of(input, dims), axes_along(input, dims)
    centre, squares = moments(input.local, dims, count, input.mesh, axes)
    less = float(unbiased) if correction is None else float(correction)
    # As PyTorch has it: of too few values it is infinite or not a number.
    variance = squares / max(count - less, 0)
    made = (torch.sqrt(variance) if root else variance), centre
    spread, mean = (
        finished(each.to(input.dtype), input.splits, dims, keepdim, input.mesh) for each in made
    )
    return spread, mean


@rule("var", statistic=True)
def variance(
    func: Any,
    input: SplitTensor,
    dim: Dims = None,
    unbiased: bool = True,
    keepdim: bool = False,
    correction: float | None = None,
) -> Tensor:
    """Add up squared differences from the mean of all ranks."""
    return _spread(input, dim, unbiased, keepdim, correction, root=False)[0]


@rule("std", statistic=True)
def deviation(
    func: Any,
    input: SplitTensor,
    dim: Dims = None,
    unbiased: bool = True,
    keepdim: bool = False,
    correction: float | None = None,
) -> Tensor:
    """Return the root of the variance."""
    return _spread(input, dim, unbiased, keepdim, correction, root=True)[0]


@rule("var_mean", statistic=True)
def variance_and_mean(
    func: Any,
    input: SplitTensor,
    dim: Dims = None,
    unbiased: bool = True,
    keepdim: bool = False,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the variance and the mean of all ranks."""
    return _spread(input, dim, unbiased, keepdim, correction, root=False)


@rule("std_mean", statistic=True)
def deviation_and_mean(
    func: Any,
    input: SplitTensor,
    dim: Dims = None,
    unbiased: bool = True,
    keepdim: bool = False,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the root of the variance, and the mean of all ranks."""
    return _spread(input, dim, unbiased, keepdim, correction, root=True)


def norm_of(input: SplitTensor, p: float, dims: Sequence[int]) -> Tensor:
    """Return the p-norm over `dims` of all ranks, which stay with extent 1, in float64."""
    size = input.local.abs()
    if p == 0:
        return sum_of(input, (size != 0).to(wide(size).dtype), dims)
    if p == 1:
        return sum_of(input, size, dims)
    # Relative to the greatest, so that no power of a float32 leaves its range.
    top = top_of(input, size, dims)
    scale = torch.where(top > 0, top, 1).to(wide(size).dtype)
    powers = sum_of(input, (wide(size) / scale).pow(p), dims)
    # The root of nothing is nothing, and so is its slope.
    some = powers > 0
    return torch.where(some, powers, 1).pow(1 / p) * some * scale


def top_of(input: SplitTensor, local: Tensor, dims: Sequence[int]) -> Tensor:
    """Return the maxima over `dims` of all ranks, which stay with extent 1, without a gradient."""
    local = local.detach()
    if local.numel():
        made = local.amax(tuple(dims), keepdim=True)
    else:
        shape = [1 if dim in dims else side for dim, side in enumerate(local.shape)]
        made = local.new_full(shape, -torch.inf)
    return greatest(made, input.mesh, axes_along(input, dims))


@rule("norm", statistic=True)
@rule("vector_norm", places=(torch.linalg,), statistic=True)
def norm(
    func: Any,
    input: SplitTensor,
    p: Any = 2,
    dim: Dims = None,
    keepdim: bool = False,
    dtype: Any = None,
) -> Tensor:
    """Add up powers of the part, then those of the ranks; also Frobenius' norm of matrices."""
    if dtype is not None:
        return norm(func, pointwise(torch.Tensor.to, input, dtype), p, dim, keepdim)
    if p is None or p == "fro":
        p = 2
    if isinstance(p, str):
        raise Refused(f"its norm {p!r} of matrices reads all of both axes; use a norm of vectors")
    if not input.is_floating_point():
        raise Refused("it is of whole numbers, which have no norm; convert to float")
    dims = dims_of(input, dim)
    if abs(p) == inf:
        sign = 1 if p > 0 else -1
        return greatest_of(pointwise(torch.abs, input), dims, keepdim=keepdim, sign=sign)
    if few(input, dims):
        made = torch.linalg.vector_norm(input.local, p, dims, True)
    else:
        made = norm_of(input, p, dims)
    return finished(made.to(input.dtype), input.splits, dims, keepdim, input.mesh)
