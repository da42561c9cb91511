"""The graph of an ONNX model as a module: its nodes run one after the other.

image ---> Step ---> Step ---> ... ---> output      values by name; each is let go after its
             ^          ^                           last use, so that memory holds what is
         constants   sizes                          still needed alone
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from exactile.models.onnx.registry import (
    ON_NUMBERS,
    OPERATORS,
    Arguments,
    Constant,
    Numbers,
    Result,
    Unsupported,
    Value,
)

RUN_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError)
"""What torch and numpy raise on values that do not fit each other."""


@dataclass(frozen=True)
class Node:
    """One node: what it does, to which values, and what it calls the results."""

    operator: str
    name: str
    """For people: the node's name in the file, or the one of its first output."""
    inputs: tuple[str, ...]
    """Names of values; empty for those left out."""
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def run(self, values: Sequence[Value | None]) -> Result:
        """Return what the node makes of `values`.

        Raises:
            Unsupported: if the operator, or what it is asked for, is not known.
        """
        table = ON_NUMBERS if _of_sizes(values) and self.operator in ON_NUMBERS else OPERATORS
        arguments = Arguments(self.operator, self.opset, self.attributes, values, len(self.outputs))
        try:
            return table[self.operator](arguments)
        except Unsupported as reason:
            raise Unsupported(f"operator {self.operator} ({self.name}): {reason}") from None


def _of_sizes(values: Sequence[Value | None]) -> bool:
    given = [value for value in values if value is not None]
    return any(isinstance(value, np.ndarray) for value in given) and all(
        isinstance(value, np.ndarray) or (isinstance(value, Constant) and value.numbers is not None)
        for value in given
    )


class Step(nn.Module):
    """A node as a module, so that it can be named by those who follow modules."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node
        self.original_name = node.operator

    def forward(self, values: Sequence[Value | None]) -> Result:
        """Return what the node makes of its inputs."""
        return self.node.run(values)


class GraphNetwork(nn.Module):
    """A network whose nodes are in the order in which they run."""

    def __init__(
        self,
        nodes: Sequence[Node],
        constants: Mapping[str, Constant],
        image: str,
        output: str,
    ) -> None:
        """Take the nodes that lead to `output` from `image`, and tensors by name.

        Of the `constants`, those are kept that a node takes.
        """
        super().__init__()
        self.image, self.output = image, output
        self.steps = nn.ModuleDict(
            {f"{place}_{_path(node.name)}": Step(node) for place, node in enumerate(nodes)}
        )
        needed = {output, *(name for node in nodes for name in node.inputs)}
        self.numbers: dict[str, Numbers | None] = {}
        self.buffer_names: dict[str, str] = {}
        for name in sorted(needed & set(constants)):
            self.numbers[name] = constants[name].numbers
            self.buffer_names[name] = f"{len(self.buffer_names)}_{_path(name)}"
            self.register_buffer(self.buffer_names[name], constants[name].tensor)
        self.let_go = _last_uses(nodes, output)

    def forward(self, image: Tensor) -> Tensor:
        """Return the output for `image` (N, channels, *extent), in the axes of the file."""
        values: dict[str, Value] = {
            name: Constant(self.get_buffer(buffer), self.numbers[name])
            for name, buffer in self.buffer_names.items()
        }
        values[self.image] = image
        del image
        for step, done in zip(self.steps.values(), self.let_go, strict=True):
            node = _node_of(step)
            result = step([values[name] if name else None for name in node.inputs])
            results = result if isinstance(result, tuple) else (result,)
            values.update(zip(node.outputs, results, strict=False))
            for name in done:
                values.pop(name, None)
        output = values[self.output]
        if isinstance(output, np.ndarray):
            return torch.tensor(output.tolist())
        return output.tensor if isinstance(output, Constant) else output


def _node_of(step: nn.Module) -> Node:
    assert isinstance(step, Step)
    return step.node


def _last_uses(nodes: Sequence[Node], output: str) -> tuple[tuple[str, ...], ...]:
    """Return, for each node, the values that nobody needs after it."""
    seen = {output}
    found = []
    for node in reversed(nodes):
        names = dict.fromkeys((*node.inputs, *node.outputs))
        found.append(tuple(name for name in names if name not in seen))
        seen.update(names)
    return tuple(reversed(found))


def _path(name: str) -> str:
    """Return a name that a module or a buffer can have."""
    return name.strip("/").replace(".", "_") or "unnamed"
