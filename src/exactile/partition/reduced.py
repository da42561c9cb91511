"""What is reduced of a split tensor, and what is left of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from exactile.partition.layout import Layout
from exactile.partition.mesh import Mesh
from exactile.partition.tensor import SplitTensor, wrap

Dims = int | Sequence[int] | None

FEW = 1024
"""So many values along dimensions that are not split, channels most often, PyTorch may add up."""


def dims_of(input: Tensor, dim: Dims) -> tuple[int, ...]:
    """Return the dimensions to reduce, counted from the first; all where none are given."""
    given = (dim,) if isinstance(dim, int) else tuple(dim or range(input.dim()))
    return tuple(sorted(each % input.dim() for each in given))


def axes_along(input: SplitTensor, dims: Sequence[int]) -> tuple[int, ...]:
    """Return the axes of the mesh that any of `dims` is split along."""
    splits = (input.splits[dim] for dim in dims)
    return tuple(split.axis for split in splits if split is not None)


def count_of(input: Tensor, dims: Sequence[int]) -> int:
    """Return how many values of the whole are reduced to one."""
    return prod(input.shape[dim] for dim in dims)


def few(input: SplitTensor, dims: Sequence[int]) -> bool:
    """Whether each rank may leave the reduction to PyTorch: it has all values, and few."""
    return not axes_along(input, dims) and count_of(input, dims) <= FEW


def finished(
    made: Tensor, layout: Layout, dims: Sequence[int], keepdim: bool, mesh: Mesh
) -> Tensor:
    """Return a result whose reduced dimensions are still there, with or without them."""
    left = [None if dim in dims else split for dim, split in enumerate(layout)]
    if not keepdim:
        made = made.squeeze(tuple(dims)) if dims else made
        left = [split for dim, split in enumerate(left) if dim not in dims]
    return wrap(made, left, mesh)
