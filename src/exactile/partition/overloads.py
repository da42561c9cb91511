"""The operators of exported programs, which call ATen by its overloads and not Python's functions.

Most overloads have the parameters of the Python function of their name, in its order, so its rule
is theirs (`registry.rule_of`). Those that have others are translated here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverload

from exactile.partition.normalization import batch_norm, instance_norm
from exactile.partition.pooling import adaptive_maximum, max_pool
from exactile.partition.registry import RULES, Rule
from exactile.partition.shape import getitem
from exactile.partition.tensor import SplitTensor
from exactile.partition.upsampling import interpolate

aten = torch.ops.aten

RESIZINGS = (
    *((f"upsample_nearest{axes}d", "nearest") for axes in (1, 2, 3)),
    *((f"_upsample_nearest_exact{axes}d", "nearest-exact") for axes in (1, 2, 3)),
    *(("upsample_linear1d", "linear"), ("upsample_bilinear2d", "bilinear")),
    ("upsample_trilinear3d", "trilinear"),
)
"""Names of ATen, and the mode of `interpolate`."""


def _register(overload: OpOverload) -> Callable[[Rule], Rule]:
    def register(made: Rule) -> Rule:
        RULES[overload] = made
        return made

    return register


@_register(aten.batch_norm.default)
def _batch_norm(
    func: Any,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    *_: Any,
) -> Tensor:
    """Normalise each channel over batch and space, or with statistics known before."""
    arguments = (input, mean, variance, weight, bias, training, momentum, eps)
    return batch_norm(F.batch_norm, *arguments)


@_register(aten.instance_norm.default)
def _instance_norm(
    func: Any,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    *_: Any,
) -> Tensor:
    """Normalise each channel of each image over space."""
    arguments = (input, mean, variance, weight, bias, use_input_stats, momentum, eps)
    return instance_norm(F.instance_norm, *arguments)


@_register(aten.sym_size.int)
def _size(func: Any, input: SplitTensor, dim: int) -> int:
    """Return the extent of the whole."""
    return int(input.shape[dim])


@_register(aten.slice.Tensor)
def _slice(
    func: Any,
    input: SplitTensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    """Cut along one dimension."""
    items: list[Any] = [slice(None)] * input.dim()
    items[dim] = slice(start, end, step)
    return getitem(func, input, tuple(items))


def _resizing(mode: str) -> Rule:
    def resize(func: Any, input: SplitTensor, output_size: Any, *rest: Any) -> Tensor:
        """Resize to a size, or by factors."""
        *corners, factors = rest
        align = corners[0] if corners else None
        return interpolate(F.interpolate, input, output_size, factors, mode, align)

    return resize


for _name, _mode in RESIZINGS:
    RULES[getattr(aten, _name).vec] = _resizing(_mode)


def _maxima(known: Rule, function: Any) -> Rule:
    def pool(func: Any, input: SplitTensor, *parameters: Any) -> tuple[Tensor, None]:
        """Return the maxima, and nothing for their indices, which the program may leave."""
        return known(function, input, *parameters), None

    return pool


for _axes in (1, 2, 3):
    _name = f"adaptive_max_pool{_axes}d"
    RULES[getattr(aten, _name).default] = _maxima(adaptive_maximum, getattr(F, _name))
for _axes in (2, 3):
    _maximum = getattr(F, f"max_pool{_axes}d")
    RULES[getattr(aten, f"max_pool{_axes}d_with_indices").default] = _maxima(max_pool, _maximum)
