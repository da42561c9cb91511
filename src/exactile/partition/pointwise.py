"""Operators that compute each position from the same position of their arguments."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from exactile.partition.align import conform, joint_layout, mesh_of
from exactile.partition.exchange import enter
from exactile.partition.nested import mapped, tensors_in
from exactile.partition.refusal import Refused
from exactile.partition.registry import PLACES, rule
from exactile.partition.tensor import SplitTensor, wrap

ARITHMETIC = ("add", "sub", "mul", "div", "truediv", "floordiv", "pow", "mod")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "invert", "neg", "abs")
FUNCTIONS = (
    *("add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide", "pow"),
    *("floor_divide", "remainder", "fmod", "maximum", "minimum", "fmax", "fmin", "lerp"),
    *("addcmul", "addcdiv", "where", "clamp", "clip", "clamp_min", "clamp_max", "nan_to_num"),
    *("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not", "atan2"),
    *("isnan", "isinf", "isfinite", "abs", "absolute", "neg", "negative", "sign", "square"),
    *("sqrt", "rsqrt", "reciprocal", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "erf", "erfc"),
    *("sigmoid", "logit", "floor", "ceil", "round", "trunc", "frac", "heaviside", "hypot"),
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardtanh"),
    *("hardswish", "hardsigmoid", "hardshrink", "softshrink", "softplus", "softsign"),
    *("tanhshrink", "threshold", "logsigmoid"),
    *("clone", "contiguous", "detach", "to", "float", "double", "half", "bfloat16", "type_as"),
    *("zeros_like", "ones_like", "full_like"),
)


def _spellings() -> list[str]:
    names = [*FUNCTIONS, *(f"{name}_" for name in FUNCTIONS)]
    for name in (*ARITHMETIC, *COMPARISONS):
        names += [f"__{prefix}{name}__" for prefix in ("", "r", "i")]
    return [name for name in names if any(hasattr(place, name) for place in PLACES)]


@rule(*_spellings())
def pointwise(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Bring the tensors to one layout and compute on the parts."""
    mesh = mesh_of((args, kwargs))
    target = joint_layout(tensors_in((args, kwargs)))
    parts = mapped((args, kwargs), lambda tensor: conform(tensor, target, mesh))
    made = func(*parts[0], **parts[1])
    if args and isinstance(args[0], Tensor) and made is parts[0][0]:
        if not isinstance(args[0], SplitTensor) or args[0].splits != target:
            raise Refused("it writes a split tensor into a whole one; compute a new tensor")
        args[0].local = made
        return args[0]
    return wrap(made, target, mesh)


@rule("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
def dropout(
    func: Any, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Hand the tensor on, unless numbers are to be drawn."""
    if training and p > 0:
        raise Refused(
            "it draws random numbers, which differ from those of one process; call eval() on the "
            "dropout modules, or set their p to 0"
        )
    return input


@rule("prelu")
def prelu(func: Any, input: SplitTensor, weight: Tensor) -> Tensor:
    """Apply a slope for each channel: dimension 1, not the last."""
    weight = enter(weight, input.mesh, input.axes)
    return wrap(F.prelu(input.local, weight), input.splits, input.mesh)


@rule("linear")
def linear(func: Any, input: SplitTensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Mix the last dimension, where that is not split."""
    if not isinstance(input, SplitTensor) or input.splits[-1] is not None:
        raise Refused("it mixes all positions of a split axis; move the channels to the last one")
    weight = enter(weight, input.mesh, input.axes)
    bias = None if bias is None else enter(bias, input.mesh, input.axes)
    return wrap(F.linear(input.local, weight, bias), input.splits, input.mesh)


@rule("requires_grad_")
def requires_grad_(func: Any, input: SplitTensor, requires_grad: bool = True) -> SplitTensor:
    """Ask for the gradient of the part."""
    input.local.requires_grad_(requires_grad)
    return input
