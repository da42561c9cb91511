"""The operators of exported programs that Python has no function of the same name for.

The rule of any other overload is that of the functions of its name (`registry.rule_of`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverload

from exactile.partition.pooling import adaptive_maximum, max_pool
from exactile.partition.registry import RULES, Rule
from exactile.partition.shape import getitem
from exactile.partition.signature import bind
from exactile.partition.tensor import SplitTensor
from exactile.partition.upsampling import resized

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
    def resize(
        func: Any,
        input: SplitTensor,
        size: Any = None,
        align_corners: bool = False,
        scale_factor: Any = None,
        scales: float | None = None,
        scales_d: float | None = None,
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> Tensor:
        """Resize to a size, or by factors; where both are given, by the factors' positions."""
        given = (scales, scales_d, scales_h, scales_w)
        factors = [each for each in given if each is not None] or scale_factor
        return resized(input, size, factors, mode, bool(align_corners))

    return resize


for _name, _mode in RESIZINGS:
    for _overload in ("vec", "default"):
        RULES[getattr(getattr(aten, _name), _overload)] = _resizing(_mode)


def _maxima(known: Rule, function: Any) -> Rule:
    def pool(func: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        """Return the maxima, and nothing for their indices, which the program may leave."""
        return known(function, **bind(func, args, kwargs, known)), None

    return pool


for _axes in (1, 2, 3):
    _name = f"adaptive_max_pool{_axes}d"
    RULES[getattr(aten, _name).default] = _maxima(adaptive_maximum, getattr(F, _name))
for _axes in (2, 3):
    _maximum = getattr(F, f"max_pool{_axes}d")
    RULES[getattr(aten, f"max_pool{_axes}d_with_indices").default] = _maxima(max_pool, _maximum)
