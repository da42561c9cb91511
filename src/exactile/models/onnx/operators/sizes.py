"""Sizes, and what exporters compute from them: whole numbers beside the tensors.

    Shape ---> Slice ---> Concat ---> Reshape      no tensor among them: the numbers are Python's
                                                   own, so that a size is seen as a size

Here are the operators that make numbers, and those that are done with numbers alone; each has the
meaning that it has for tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from math import prod
from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from exactile.models.onnx.registry import (
    ON_NUMBERS,
    Arguments,
    Constant,
    Numbers,
    Unsupported,
    Value,
    operator,
)

WHOLE = (TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64)
REAL = (TensorProto.FLOAT, TensorProto.DOUBLE)


def numbers(values: Any) -> Numbers:
    """Return an array of Python's numbers."""
    return np.array(values, dtype=object)


def on_numbers(*names: str) -> Callable[[Any], Any]:
    """Enter a function for numbers under `names`."""
    return operator(*names, table=ON_NUMBERS)


@operator("Shape")
def shape(arguments: Arguments) -> Numbers:
    """Return the sides of a tensor, from `start` up to `end`."""
    sides = list(arguments.tensor().shape)
    return numbers(sides[slice(arguments.get("start", 0), arguments.get("end", None))])


@operator("Size")
def size(arguments: Arguments) -> Numbers:
    """Return how many values a tensor has."""
    return numbers(prod(arguments.tensor().shape))


@on_numbers("Shape")
def shape_of_numbers(arguments: Arguments) -> Numbers:
    """Return the sides of an array of numbers."""
    return numbers(list(arguments.array(0).shape))


@on_numbers("Size")
def count_of_numbers(arguments: Arguments) -> Numbers:
    """Return how many numbers there are."""
    return numbers(arguments.array(0).size)


@operator("Constant")
def constant(arguments: Arguments) -> Value:
    """Return what the node holds."""
    for name in ("value_int", "value_ints", "value_float", "value_floats"):
        if name in arguments.attributes:
            return torch.tensor(arguments.attributes[name])
    value = arguments.attributes.get("value")
    if not isinstance(value, Constant):
        raise Unsupported(f"it holds {', '.join(arguments.attributes) or 'nothing'}")
    return value


def _filling(arguments: Arguments) -> Any:
    value = arguments.get("value", None)
    return 0.0 if value is None else value.tensor.item()


@operator("ConstantOfShape")
def filled(arguments: Arguments) -> Tensor:
    """Return a tensor of one value."""
    return torch.full([int(side) for side in arguments.numbers(0)], _filling(arguments))


@on_numbers("ConstantOfShape")
def filled_by_sizes(arguments: Arguments) -> Value:
    """Return one value several times: numbers in a row, a tensor in a shape of more axes."""
    sides = arguments.numbers(0)
    if len(sides) < 2 and isinstance(_filling(arguments), int):
        return numbers(np.full([int(side) for side in sides], _filling(arguments)).tolist())
    return torch.full(sides, _filling(arguments))


@on_numbers("Range")
@operator("Range")
def counted(arguments: Arguments) -> Tensor:
    """Return the numbers from start up to a limit."""
    start, limit, step = (arguments.numbers(place)[0] for place in range(3))
    return torch.arange(start, limit, step)


def _divided(first: Any, second: Any) -> Any:
    if isinstance(first, (float, torch.SymFloat)) or isinstance(second, (float, torch.SymFloat)):
        return first / second
    quotient = first // second
    return quotient + 1 if quotient < 0 and quotient * second != first else quotient


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda a, b: a + b,
    "And": lambda a, b: bool(a and b),
    "Div": _divided,
    "Equal": lambda a, b: a == b,
    "Greater": lambda a, b: a > b,
    "GreaterOrEqual": lambda a, b: a >= b,
    "Less": lambda a, b: a < b,
    "LessOrEqual": lambda a, b: a <= b,
    "Max": lambda a, b: a if a >= b else b,
    "Min": lambda a, b: a if a <= b else b,
    "Mod": lambda a, b: a % b,
    "Mul": lambda a, b: a * b,
    "Or": lambda a, b: bool(a or b),
    "Pow": lambda a, b: a**b,
    "Sub": lambda a, b: a - b,
}
"""Of two numbers."""

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "Abs": abs,
    "Ceil": lambda a: float(math.ceil(a)),
    "Floor": lambda a: float(math.floor(a)),
    "Identity": lambda a: a,
    "Neg": lambda a: -a,
    "Not": lambda a: not a,
    "Sqrt": math.sqrt,
}
"""Of one number."""


def _each(function: Callable[..., Any], count: int) -> Callable[..., Numbers]:
    return lambda *arrays: numbers(np.frompyfunc(function, count, 1)(*arrays))


def _pairwise(function: Callable[[Any, Any], Any]) -> Callable[[Arguments], Numbers]:
    def run(arguments: Arguments) -> Numbers:
        arrays = [arguments.array(place) for place in range(len(arguments.values))]
        return reduce(_each(function, 2), arrays)

    return run


for _name, _two in ARITHMETIC.items():
    on_numbers(_name)(_pairwise(_two))
for _name, _one in FUNCTIONS.items():
    on_numbers(_name)(lambda arguments, one=_one: _each(one, 1)(arguments.array(0)))


@on_numbers("Cast")
def cast(arguments: Arguments) -> Numbers:
    """Return numbers in another type: whole, real, or true and false."""
    wanted = arguments.attributes["to"]
    if wanted in WHOLE:
        return _each(torch.sym_int, 1)(arguments.array(0))
    if wanted in REAL:
        return _each(torch.sym_float, 1)(arguments.array(0))
    if wanted == TensorProto.BOOL:
        return _each(bool, 1)(arguments.array(0))
    raise Unsupported(f"it casts a size to {TensorProto.DataType.Name(wanted)}")


@on_numbers("Where")
def chosen(arguments: Arguments) -> Numbers:
    """Return numbers of the second or the third input."""
    three = (arguments.array(place) for place in range(3))
    return _each(lambda condition, yes, no: yes if condition else no, 3)(*three)


@on_numbers("Concat")
def concatenate(arguments: Arguments) -> Numbers:
    """Return arrays of numbers one after the other."""
    arrays = [arguments.array(place) for place in range(len(arguments.values))]
    return np.concatenate(arrays, arguments.attributes["axis"])


@on_numbers("Gather")
def gather(arguments: Arguments) -> Numbers:
    """Return the numbers that the indices name."""
    places = arguments.array(1).astype(np.int64)
    return numbers(np.take(arguments.array(0), places, arguments.get("axis", 0)))


@on_numbers("Reshape")
def reshape(arguments: Arguments) -> Numbers:
    """Return the numbers in another shape."""
    given = arguments.array(0)
    sides = [given.shape[i] if n == 0 else int(n) for i, n in enumerate(arguments.numbers(1))]
    return given.reshape(sides)


@on_numbers("Slice")
def cut(arguments: Arguments) -> Numbers:
    """Return every step-th number between start and end."""
    given = arguments.array(0)
    starts, ends = arguments.listed("starts", 1) or [], arguments.listed("ends", 2) or []
    axes = arguments.listed("axes", 3) or list(range(len(starts)))
    steps = arguments.numbers(4) if arguments.has(4) else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        whole = [slice(None)] * given.ndim
        # Before the first number is beyond all of them, where the way is backwards.
        last = None if step < 0 and end < -given.shape[int(axis)] else end
        whole[int(axis)] = slice(start, last, step)
        given = given[tuple(whole)]
    return given


@on_numbers("Squeeze")
def squeeze(arguments: Arguments) -> Numbers:
    """Return the array without axes of one position."""
    axes = arguments.listed("axes", 1)
    axis = None if axes is None else tuple(int(axis) for axis in axes)
    return numbers(np.squeeze(arguments.array(0), axis))


@on_numbers("Unsqueeze")
def unsqueeze(arguments: Arguments) -> Numbers:
    """Return the array with new axes of one position."""
    axes = arguments.listed("axes", 1) or []
    return np.expand_dims(arguments.array(0), tuple(int(axis) for axis in axes))


@on_numbers("Transpose")
def transpose(arguments: Arguments) -> Numbers:
    """Return the axes in another order."""
    return np.transpose(arguments.array(0), arguments.get("perm", None))


@on_numbers("Expand")
def expand(arguments: Arguments) -> Numbers:
    """Return the array broadcast with a shape."""
    given = arguments.array(0)
    shape = np.broadcast_shapes(given.shape, tuple(int(n) for n in arguments.numbers(1)))
    return np.broadcast_to(given, shape)


@on_numbers("Split")
def split(arguments: Arguments) -> tuple[Numbers, ...]:
    """Return parts of the array, of given lengths or of equal ones."""
    given, axis = arguments.array(0), arguments.get("axis", 0)
    lengths = arguments.listed("split", 1)
    if lengths is None:
        return tuple(np.array_split(given, arguments.outputs, axis))
    return tuple(np.split(given, np.cumsum([int(n) for n in lengths])[:-1], axis))


@on_numbers("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
def reduced(arguments: Arguments) -> Numbers:
    """Return the product, sum, largest or smallest of all numbers of a row."""
    given, function = arguments.array(0), ARITHMETIC[MEANING[arguments.operator]]
    if given.ndim > 1:
        raise Unsupported("it reduces sizes in several axes")
    total = reduce(function, given.reshape(-1).tolist())
    return numbers([total] if arguments.get("keepdims", 1) and given.ndim else total)


MEANING = {"ReduceProd": "Mul", "ReduceSum": "Add", "ReduceMax": "Max", "ReduceMin": "Min"}
