"""Activations from functions whose vectorised loop leaves no scalar remainder.

exp, erf, expm1, log1p and tanh fill the last vector up; sums, products and quotients are rounded
alike everywhere. Each function here gets float32 and returns a new tensor. At infinity the limit
may be returned where PyTorch's vectorised loop returns NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from typing import Any, TypeVar

import torch
from torch import Tensor

from exactile.fixed_order.registry import replaces

aten = torch.ops.aten
Function = TypeVar("Function", bound=Callable[..., Tensor])


def _activation(*operators: Any) -> Callable[[Function], Function]:
    """Register a function of a float32 tensor for an operator and the one that works in place."""

    def register(compute: Function) -> Function:
        def anew(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            return compute(x.float(), *args, **kwargs).to(x.dtype)

        def in_place(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            return x.copy_(compute(x.float(), *args, **kwargs))

        for operator in operators:
            replaces(operator)(in_place if operator._schema.is_mutable else anew)
        return compute

    return register


@_activation(aten.sigmoid.default, aten.sigmoid_.default)
def _sigmoid(x: Tensor) -> Tensor:
    return x.neg().exp_().add_(1).reciprocal_()


@_activation(aten.silu.default, aten.silu_.default)
def _silu(x: Tensor) -> Tensor:
    divisor = x.neg().exp_().add_(1)
    return torch.div(x, divisor, out=divisor)


@_activation(aten.glu.default)
def _glu(x: Tensor, dim: int = -1) -> Tensor:
    value, gate = x.chunk(2, dim)
    return _sigmoid(gate).mul_(value)


@_activation(aten.gelu.default, aten.gelu_.default)
def _gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    if approximate == "tanh":
        result = (x * x).mul_(0.044715).add_(1).mul_(x).mul_((2 / pi) ** 0.5).tanh_()
    else:
        result = (x * 0.5**0.5).erf_()
    return result.add_(1).mul_(0.5).mul_(x)


@_activation(aten.elu.default, aten.elu_.default)
def _elu(x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    negative = (x * input_scale).expm1_().mul_(alpha * scale)
    return torch.where(x > 0, x * scale, negative)


@_activation(aten.softplus.default)
def _softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    scaled = x * beta
    return torch.where(scaled > threshold, x, scaled.exp().log1p_().div_(beta))


@_activation(aten.mish.default, aten.mish_.default)
def _mish(x: Tensor) -> Tensor:
    return _softplus(x).tanh_().mul_(x)


@_activation(aten.celu.default, aten.celu_.default)
def _celu(x: Tensor, alpha: float = 1) -> Tensor:
    return _elu(x, alpha, 1, 1 / alpha)


@_activation(aten.rsqrt.default, aten.rsqrt_.default)
def _rsqrt(x: Tensor) -> Tensor:
    # In float32 it is exact by itself; in bfloat16 the vectorised loop approximates.
    return x.rsqrt()
