"""Soft maxima, and division by a norm: what is relative to all of an extent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from exactile.partition.exchange import enter
from exactile.partition.reduced import Dims, axes_along, dims_of, few, finished
from exactile.partition.reduction import norm_of, sum_of, top_of
from exactile.partition.refusal import Refused
from exactile.partition.registry import name_of, rule
from exactile.partition.sums import wide
from exactile.partition.tensor import SplitTensor, wrap


@rule("softmax", "log_softmax", statistic=True)
def softmax(func: Any, input: SplitTensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """Subtract the maximum of all ranks, and divide by the sum over all ranks."""
    if dim is None:
        raise Refused("it is not told the dimension; give dim")
    plain = name_of(func) == "softmax"
    local = input.local if dtype is None else input.local.to(dtype)
    dims = dims_of(input, dim)
    if few(input, dims):
        made = (torch.softmax if plain else torch.log_softmax)(local, dims[0])
        return wrap(made, input.splits, input.mesh)
    apart = _apart(input, local, dims)[0]
    powers = apart.exp()
    sums = enter(sum_of(input, powers, dims), input.mesh, axes_along(input, dims))
    made = powers / sums.to(powers.dtype) if plain else apart - sums.log().to(apart.dtype)
    return wrap(made.to(local.dtype), input.splits, input.mesh)


@rule("logsumexp", statistic=True)
def logsumexp(func: Any, input: SplitTensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """Add up what is relative to the maximum of all ranks."""
    dims = dims_of(input, dim)
    if few(input, dims):
        made = input.local.logsumexp(dims, keepdim=True)
    else:
        apart, top = _apart(input, input.local, dims)
        made = sum_of(input, apart.exp(), dims).log() + top
        made = torch.where(top == torch.inf, top, made).to(input.dtype)
    return finished(made, input.splits, dims, keepdim, input.mesh)


def _apart(input: SplitTensor, local: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return differences from the maximum of all ranks, and the maximum."""
    local = wide(local)
    top = top_of(input, local, dims)
    # Where all is minus infinity, differences from it would not be numbers.
    top = torch.where(top == -torch.inf, 0, top)
    return local - top, top


@rule("normalize", statistic=True)
def normalize(
    func: Any, input: SplitTensor, p: float = 2.0, dim: Dims = 1, eps: float = 1e-12
) -> Tensor:
    """Divide by the norm along dimensions, of all ranks."""
    dims = dims_of(input, dim)
    if few(input, dims):
        size = torch.linalg.vector_norm(input.local, p, dims, True).clamp_min(eps)
    else:
        size = norm_of(input, p, dims).clamp_min(eps)
        size = enter(size, input.mesh, axes_along(input, dims)).to(wide(input.local).dtype)
    return wrap((input.local / size).to(input.dtype), input.splits, input.mesh)
