"""What is done to each value by itself: activations, arithmetic, comparisons, types."""

from __future__ import annotations

import operator as python
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from onnx import TensorProto
from torch import Tensor

from exactile.models.onnx.registry import Arguments, Unsupported, operator

UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Asin": torch.asin,
    "Atan": torch.atan,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": F.hardswish,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": F.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": lambda x: F.softplus(x, threshold=1e9),
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}
"""Of one tensor, with nothing to set."""

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": python.add,
    "And": torch.logical_and,
    "Equal": python.eq,
    "Greater": python.gt,
    "GreaterOrEqual": python.ge,
    "Less": python.lt,
    "LessOrEqual": python.le,
    "Mul": python.mul,
    "Or": torch.logical_or,
    "Pow": python.pow,
    "Sub": python.sub,
    "Xor": torch.logical_xor,
}
"""Of two operands that are broadcast, with nothing to set."""

TYPES: dict[int, torch.dtype] = {
    TensorProto.BOOL: torch.bool,
    TensorProto.FLOAT: torch.float32,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
}
"""Types that a value may be cast to; a narrower float would be another network."""


def _of_one(function: Callable[[Tensor], Tensor]) -> Callable[[Arguments], Tensor]:
    return lambda arguments: function(arguments.tensor())


def _of_two(function: Callable[[Any, Any], Any]) -> Callable[[Arguments], Any]:
    def run(arguments: Arguments) -> Any:
        if arguments.get("broadcast", 0):
            raise Unsupported("it broadcasts along an axis, as before opset 7")
        return function(arguments.operand(0), arguments.operand(1))

    return run


for _name, _function in UNARY.items():
    operator(_name)(_of_one(_function))
for _name, _arithmetic in BINARY.items():
    operator(_name)(_of_two(_arithmetic))


@operator("Div")
def divide(arguments: Arguments) -> Any:
    """Return the quotient; of whole numbers, the one that is cut towards zero."""
    first, second = arguments.operand(0), arguments.operand(1)
    if isinstance(first, Tensor) and not first.is_floating_point():
        return torch.div(first, second, rounding_mode="trunc")
    return first / second


@operator("Mod")
def remainder(arguments: Arguments) -> Tensor:
    """Return the remainder, with the sign of the divisor or, by `fmod`, of the dividend."""
    function = torch.fmod if arguments.get("fmod", 0) else torch.remainder
    return function(arguments.tensor(0), arguments.operand(1))


@operator("Sum", "Mean", "Max", "Min")
def combined(arguments: Arguments) -> Tensor:
    """Return sum, mean, largest or smallest of any number of tensors, position by position."""
    tensors = [arguments.tensor(place) for place in range(len(arguments.values))]
    if arguments.operator in ("Max", "Min"):
        return reduce(torch.maximum if arguments.operator == "Max" else torch.minimum, tensors)
    total = reduce(torch.add, tensors)
    return total / len(tensors) if arguments.operator == "Mean" else total


@operator("Where")
def chosen(arguments: Arguments) -> Tensor:
    """Return values of the second or the third input."""
    return torch.where(arguments.tensor(0), arguments.operand(1), arguments.operand(2))


@operator("Clip")
def clipped(arguments: Arguments) -> Tensor:
    """Return values within bounds, which are attributes before opset 11."""
    low = arguments.operand(1) if arguments.has(1) else arguments.get("min", None)
    high = arguments.operand(2) if arguments.has(2) else arguments.get("max", None)
    image = arguments.tensor()
    return image if low is None and high is None else torch.clamp(image, low, high)


@operator("LeakyRelu")
def leaky_relu(arguments: Arguments) -> Tensor:
    """Return values, those below zero times `alpha`."""
    return F.leaky_relu(arguments.tensor(), arguments.get("alpha", 0.01))


@operator("PRelu")
def parametric_relu(arguments: Arguments) -> Tensor:
    """Return values, those below zero times a slope for each channel."""
    image, slope = arguments.tensor(0), arguments.tensor(1)
    if slope.numel() == 1 or slope.shape == (image.shape[1], *[1] * (image.ndim - 2)):
        return F.prelu(image, slope.reshape(-1))
    return torch.where(image < 0, slope * image, image)


@operator("Elu")
def elu(arguments: Arguments) -> Tensor:
    """Return the exponential linear unit."""
    return F.elu(arguments.tensor(), arguments.get("alpha", 1.0))


@operator("Celu")
def celu(arguments: Arguments) -> Tensor:
    """Return the exponential linear unit whose slope is continuous."""
    return F.celu(arguments.tensor(), arguments.get("alpha", 1.0))


@operator("Selu")
def selu(arguments: Arguments) -> Tensor:
    """Return the self-normalising exponential linear unit."""
    image = arguments.tensor()
    alpha = arguments.get("alpha", 1.67326319217681884765625)
    return F.elu(image, alpha) * float(arguments.get("gamma", 1.05070102214813232421875))


@operator("Gelu")
def gelu(arguments: Arguments) -> Tensor:
    """Return the Gaussian error linear unit."""
    return F.gelu(arguments.tensor(), approximate=arguments.get("approximate", "none"))


@operator("Swish")
def swish(arguments: Arguments) -> Tensor:
    """Return values times their sigmoid."""
    image, alpha = arguments.tensor(), arguments.get("alpha", 1.0)
    return F.silu(image) if alpha == 1.0 else image * torch.sigmoid(alpha * image)


@operator("HardSigmoid")
def hard_sigmoid(arguments: Arguments) -> Tensor:
    """Return a line, cut at 0 and 1."""
    alpha, beta = float(arguments.get("alpha", 0.2)), float(arguments.get("beta", 0.5))
    return (arguments.tensor() * alpha + beta).clamp(0.0, 1.0)


@operator("ThresholdedRelu")
def thresholded_relu(arguments: Arguments) -> Tensor:
    """Return values above a threshold, and zero elsewhere."""
    return F.threshold(arguments.tensor(), arguments.get("alpha", 1.0), 0.0)


@operator("Shrink")
def shrunk(arguments: Arguments) -> Tensor:
    """Return values moved towards zero, those between the thresholds set to it."""
    image, bias, edge = arguments.tensor(), arguments.get("bias", 0.0), arguments.get("lambd", 0.5)
    below = torch.where(image < -edge, image + bias, torch.zeros_like(image))
    return torch.where(image > edge, image - bias, below)


@operator("Cast")
def cast(arguments: Arguments) -> Tensor:
    """Return values in another type."""
    wanted = arguments.attributes["to"]
    if wanted not in TYPES:
        name = TensorProto.DataType.Name(wanted)
        raise Unsupported(f"it casts to {name}, and networks run in float32 here")
    return arguments.tensor().to(TYPES[wanted])


@operator("CastLike")
def cast_like(arguments: Arguments) -> Tensor:
    """Return values in the type of another tensor."""
    return arguments.tensor(0).to(arguments.tensor(1).dtype)


@operator("Identity", "Dropout")
def same(arguments: Arguments) -> Tensor:
    """Return the input: networks are in evaluation mode.

    Raises:
        Unsupported: if a drop-out is to be done, or its mask is asked for.
    """
    if arguments.outputs > 1 or (arguments.has(2) and any(arguments.numbers(2))):
        raise Unsupported("values are dropped at random; export the network in evaluation mode")
    return arguments.tensor()
