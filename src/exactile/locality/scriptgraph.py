"""Reading the graph of a TorchScript network: the code that can run, and where values come from.

The graph is that of `forward` with all methods and functions put in their callers' places. A branch
on what is fixed (`if self.training`) is read on the side that is taken only. Values are told apart
by their names, which are unique in a graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import nn

FRESH = frozenset(
    (
        *("prim::ListConstruct", "prim::DictConstruct", "aten::list", "aten::dict", "aten::copy"),
        *("aten::add", "aten::mul", "aten::slice", "aten::keys", "aten::values", "aten::items"),
        *("aten::size", "aten::split", "aten::split_with_sizes", "aten::chunk", "aten::unbind"),
        *("aten::sorted", "aten::list_with_default", "prim::Uninitialized"),
    )
)
"""What makes a list or a dictionary that nothing else holds."""

CONTAINERS = ("ListType", "DictType")
"""Types of values that code can change beside tensors and objects."""

UNKNOWN = object()
"""In place of a value that is not fixed."""


@cache
def schema_of(text: str) -> Any:
    """Return the schema that a node's text spells, or None where it has none."""
    return None if text == "(no schema)" else torch._C.parse_schema(text)


@dataclass
class ScriptGraph:
    """The code of one network. A block's parameter has one source for each way into the block."""

    module: nn.Module
    sources: dict[str, list[Any]] = field(default_factory=dict)
    """What may come out of a branch or be carried by a loop, by the name of the value."""
    stored: list[Any] = field(default_factory=list)
    """What is put into a list or a dictionary after that was made, whichever it is."""

    def nodes(self) -> Iterator[Any]:
        """Yield all nodes that can run: a branch before what is inside, in order."""
        graph: Any = self.module.inlined_graph
        yield from self._of_block(graph)

    def _of_block(self, block: Any) -> Iterator[Any]:
        for node in block.nodes():
            taken = self.taken(node)
            self._note_stored(node)
            for place, output in enumerate(node.outputs()):
                self._note(node, taken, place, output)
            if node.kind() == "prim::Loop":
                (body,) = node.blocks()
                carried = list(node.inputs())[2:]
                parameters, returned = list(body.inputs())[1:], list(body.outputs())[1:]
                for parameter, first, next_ in zip(parameters, carried, returned, strict=True):
                    self.sources[parameter.debugName()] = [first, next_]
            yield node
            for inner in taken:
                yield from self._of_block(inner)

    def _note(self, node: Any, taken: list[Any], place: int, output: Any) -> None:
        if node.kind() == "prim::If":
            self.sources[output.debugName()] = [list(block.outputs())[place] for block in taken]
        elif node.kind() == "prim::Loop":
            (body,) = taken
            self.sources[output.debugName()] = [
                list(node.inputs())[2 + place],
                list(body.outputs())[1 + place],
            ]
        elif node.kind() in ("prim::unchecked_cast", "aten::_unwrap_optional"):
            self.sources[output.debugName()] = list(node.inputs())[:1]

    def _note_stored(self, node: Any) -> None:
        schema, inputs = schema_of(node.schema()), list(node.inputs())
        if schema is None or not inputs or inputs[0].type().kind() not in CONTAINERS:
            return
        changed = schema.arguments[0].alias_info
        if changed is not None and changed.is_write:
            self.stored += inputs[1:]

    def taken(self, node: Any) -> list[Any]:
        """Return the blocks of `node` that can run: one of a branch whose condition is fixed."""
        blocks = list(node.blocks())
        if node.kind() != "prim::If":
            return blocks
        condition = self.fixed(next(node.inputs()))
        return blocks if condition is UNKNOWN else [blocks[0] if condition else blocks[1]]

    def fixed(self, value: Any) -> object:
        """Return what `value` always is, an attribute included, or `UNKNOWN`."""
        node = value.node()
        if node.kind() == "prim::Constant":
            return value.toIValue()
        if node.kind() == "prim::GetAttr":
            found = self.attribute(value)
            plain = found is None or isinstance(found, (bool, int, float, str))
            return found if plain else UNKNOWN
        operands = [self.fixed(operand) for operand in node.inputs()]
        if not operands or any(operand is UNKNOWN for operand in operands):
            return UNKNOWN
        match node.kind():
            case "aten::__not__":
                return not operands[0]
            case "aten::__is__":
                return operands[0] is operands[1]
            case "aten::__isnot__":
                return operands[0] is not operands[1]
            case "prim::If":
                place = [o.debugName() for o in node.outputs()].index(value.debugName())
                (block,) = self.taken(node)
                return self.fixed(list(block.outputs())[place])
        return UNKNOWN

    def attribute(self, value: Any) -> Any:
        """Return the object that a chain of attributes of the network leads to, or `UNKNOWN`."""
        names: list[str] = []
        node = value.node()
        while node.kind() == "prim::GetAttr":
            names.append(node.s("name"))
            value = next(node.inputs())
            node = value.node()
        graph: Any = self.module.inlined_graph
        if value.debugName() != next(graph.inputs()).debugName():
            return UNKNOWN
        found: Any = self.module
        for name in reversed(names):
            found = getattr(found, name, UNKNOWN)
        return found

    def is_fresh(self, value: Any, seen: frozenset[str] = frozenset()) -> bool:
        """Whether a list or a dictionary is made in this very call and held by nothing else."""
        name = value.debugName()
        if name in seen:
            return True
        if name in self.sources:
            return all(self.is_fresh(source, seen | {name}) for source in self.sources[name])
        return value.node().kind() in FRESH

    def outlives(self, value: Any, seen: set[str] | None = None) -> bool:
        """Whether a tensor may be, view, or be held by, an attribute or a constant of the code.

        What is taken out of a list or a dictionary may be all that is put into any of them.
        """
        seen = set() if seen is None else seen
        name, node = value.debugName(), value.node()
        if name in seen:
            return False
        seen.add(name)
        if name in self.sources:
            return any(self.outlives(source, seen) for source in self.sources[name])
        if node.kind() in ("prim::GetAttr", "prim::Constant"):
            return holds_tensors(value)
        schema = schema_of(node.schema())
        views = schema is not None and any(made.alias_info is not None for made in schema.returns)
        # A primitive takes something out of something: it computes nothing.
        handed_on = views or node.kind().startswith("prim::")
        if not handed_on and value.type().kind() == "TensorType":
            return False
        operands = [operand for operand in node.inputs() if holds_tensors(operand)]
        if any(operand.type().kind() != "TensorType" for operand in operands):
            operands += self.stored
        return any(self.outlives(operand, seen) for operand in operands)


def holds_tensors(value: Any) -> bool:
    """Whether a value is a tensor, or a list, dictionary, tuple or object that may hold one."""
    kind = value.type()
    return kind.kind() == "ClassType" or "Tensor" in kind.annotation_str
