"""Programs of `torch.export` as calls of torch's functions, which have rules.

An exported graph calls operators (`aten.conv2d.default`). Most have the name and the parameters of
a function of torch (`torch.conv2d`); the few that order them otherwise are written out here. What
has no such function stays as it is, and is refused by name when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch._ops import OpOverload

from exactile.partition.registry import PLACES, RULES


def with_functions(network: nn.Module) -> nn.Module:
    """Return `network`, or where it is a graph of operators, a copy that calls functions."""
    if not isinstance(network, fx.GraphModule):
        return network
    made = deepcopy(network)
    for node in made.graph.nodes:
        if node.op == "call_function" and isinstance(node.target, OpOverload):
            node.target = _function(node.target) or node.target
    made.recompile()
    return made


def _function(operator: OpOverload) -> Callable[..., Any] | None:
    name = operator.overloadpacket.__name__
    if name in OTHERWISE:
        return OTHERWISE[name]
    found = (getattr(place, name, None) for place in PLACES)
    return next((function for function in found if function in RULES), None)


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    *_: Any,
) -> Tensor:
    return F.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)


def _instance_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    *_: Any,
) -> Tensor:
    return F.instance_norm(x, mean, variance, weight, bias, use_input_stats, momentum, eps)


def _nearest(mode: str) -> Callable[..., Tensor]:
    def resize(x: Tensor, size: Any, factors: Any = None) -> Tensor:
        return F.interpolate(x, size, factors, mode=mode)

    return resize


def _linear(mode: str) -> Callable[..., Tensor]:
    def resize(x: Tensor, size: Any, align_corners: bool, factors: Any = None) -> Tensor:
        return F.interpolate(x, size, factors, mode=mode, align_corners=align_corners)

    return resize


def _without_indices(pool: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, None]]:
    """Return the operator, whose graph takes the maxima and leaves their indices."""

    def maxima(x: Tensor, *parameters: Any) -> tuple[Tensor, None]:
        return pool(x, *parameters), None

    return maxima


def _slice(
    x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    # The end of all positions is written as the largest number there is.
    stop = None if end is None or end >= torch.iinfo(torch.int64).max else end
    index: Sequence[slice] = [slice(None)] * (dim % x.dim())
    return x[(*index, slice(start, stop, step))]


def _size(x: Tensor, dim: int) -> int:
    return x.shape[dim]


OTHERWISE: dict[str, Callable[..., Any]] = {
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "slice": _slice,
    "sym_size": _size,
    **{f"upsample_nearest{n}d": _nearest("nearest") for n in (1, 2, 3)},
    **{f"_upsample_nearest_exact{n}d": _nearest("nearest-exact") for n in (1, 2, 3)},
    **{
        f"adaptive_max_pool{n}d": _without_indices(getattr(F, f"adaptive_max_pool{n}d"))
        for n in (1, 2, 3)
    },
    **{f"max_pool{n}d_with_indices": _without_indices(getattr(F, f"max_pool{n}d")) for n in (2, 3)},
    "upsample_linear1d": _linear("linear"),
    "upsample_bilinear2d": _linear("bilinear"),
    "upsample_trilinear3d": _linear("trilinear"),
}
"""Functions with the parameters of the operators of these names."""
