"""The contract of an operator's function, and the table of them.

A function takes one `Arguments` and returns the node's output, or a tuple of outputs in order. It
calls torch's operators alone, keeps no state, and raises `Unsupported` for what it does not know:
an attribute that it leaves out would be another network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Numbers = NDArray[np.object_]
"""Sizes and what follows from them: Python's numbers, in an array of any shape."""

FEW = 4096
"""Elements of a constant that may be one of sizes, at most."""


class Constant(NamedTuple):
    """A tensor of the file, and its numbers where there are few of them."""

    tensor: Tensor
    numbers: Numbers | None


Value = Tensor | Numbers | Constant
Result = Value | tuple[Value, ...]


class Unsupported(ValueError):  # noqa: N818 - turned into a ModelError by the loader
    """A node that is not known here, or asks for what is not; the text says which and what."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What one node is given."""

    operator: str
    opset: int
    """Version of the operators' standard set that the model is written in."""
    attributes: Mapping[str, Any]
    values: Sequence[Value | None]
    """The inputs in order; None for those left out."""
    outputs: int
    """How many outputs are asked for."""

    def has(self, place: int) -> bool:
        """Whether the input at `place` is given."""
        return place < len(self.values) and self.values[place] is not None

    def tensor(self, place: int = 0) -> Tensor:
        """Return an input as a tensor.

        Raises:
            Unsupported: if it is missing.
        """
        value = self.values[place] if place < len(self.values) else None
        if value is None:
            raise Unsupported(f"its input {place} is missing")
        if isinstance(value, Constant):
            return value.tensor
        return torch.tensor(value.tolist()) if isinstance(value, np.ndarray) else value

    def optional(self, place: int) -> Tensor | None:
        """Return an input as a tensor, or None where it is left out."""
        return self.tensor(place) if self.has(place) else None

    def operand(self, place: int) -> Any:
        """Return an input for arithmetic: a tensor, or a number where it is a single size."""
        value = self.values[place]
        if isinstance(value, np.ndarray) and value.size == 1:
            return value.item()
        return self.tensor(place)

    def numbers(self, place: int) -> list[Any]:
        """Return an input that is to be numbers, one after the other.

        Raises:
            Unsupported: if it is computed from the image's pixels.
        """
        return list(self.array(place).reshape(-1))

    def array(self, place: int) -> Numbers:
        """Return an input that is to be numbers, in its shape.

        Raises:
            Unsupported: if it is computed from the image's pixels.
        """
        value = self.values[place]
        if isinstance(value, Constant) and value.numbers is not None:
            return value.numbers
        if isinstance(value, np.ndarray):
            return value
        raise Unsupported(f"its input {place} is to be sizes, but follows from pixels")

    def get(self, name: str, default: Any) -> Any:
        """Return an attribute, or `default` where the node has none of that name."""
        return self.attributes.get(name, default)

    def listed(self, name: str, place: int) -> list[Any] | None:
        """Return what older operators have as an attribute and newer ones as an input."""
        if self.has(place):
            return self.numbers(place)
        given = self.attributes.get(name)
        return None if given is None else list(given)

    def expect(self, name: str, *known: Any) -> None:
        """Refuse an attribute that is given and none of `known`.

        Raises:
            Unsupported: if so.
        """
        value = self.attributes.get(name, known[0])
        if value not in known:
            raise Unsupported(f"{name} is {value!r}")


Function = Callable[[Arguments], Result]

OPERATORS: dict[str, Function] = {}
"""What is done with tensors, by the operator's name."""

ON_NUMBERS: dict[str, Function] = {}
"""What is done where all inputs are numbers, at least one of which follows from a size."""


def operator(*names: str, table: dict[str, Function] = OPERATORS) -> Callable[[Function], Function]:
    """Enter a function in a table under `names`; a second entry of a name is an error."""

    def enter(function: Function) -> Function:
        for name in names:
            if name in table:
                raise ValueError(f"{name} has two functions")
            table[name] = function
        return function

    return enter


def numbers_of(tensor: Tensor) -> Numbers | None:
    """Return the numbers of a constant, or None where there are too many to be sizes."""
    if tensor.numel() > FEW:
        return None
    numbers = np.empty(tuple(tensor.shape), dtype=object)
    numbers[...] = tensor.tolist()
    return numbers
