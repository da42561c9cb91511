"""The outputs of a TorchScript network: their names, and a network that returns one of them.

What is returned may be tensors in tuples, lists and dictionaries, one in another. The network that
returns one of them is made of the same code; what only the others need is taken out of it, so that
it is neither run nor counted when it is said what the output depends on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from exactile.errors import ModelError
from exactile.models.formats.selection import listed, place_of

Path = tuple[int | str, ...]
"""Places in tuples and lists, and names in dictionaries, from the outside inwards."""

ROUNDS = 16
"""How often containers in containers are opened."""


class OneOutput(torch.jit.ScriptModule):
    """A TorchScript network of which one output is returned."""

    def __init__(self, network: nn.Module, path: Path) -> None:
        super().__init__()
        self.network = network
        access = "".join(f"[{step!r}]" for step in path)
        self.define(f"def forward(self, image):\n    return self.network(image){access}\n")


def choose_output(
    network: Any, output: str | None, what: str
) -> tuple[nn.Module, tuple[str, ...], str]:
    """Return the network that returns the output `output`, the names of all, and its own.

    A network that returns a tensor is returned as it is, without names.

    Raises:
        ModelError: if there are several and none is said, if there is no such output, or if it is
            something else than a tensor.
    """
    kind = network.forward.schema.returns[0].type
    if kind.kind() == "TensorType":
        if output not in (None, "0"):
            raise ModelError(
                f"--output {output}: {what} returns one tensor, which is taken without being asked "
                "for: leave --output out"
            )
        return network, (), ""
    paths = list(_tensors(kind, next(network.inlined_graph.outputs())))
    if not paths and output is not None:
        # What a list or a dictionary holds may be known only when the network is run.
        if kind.kind() == "ListType" and output.isdecimal():
            paths = [(int(output),)]
        elif kind.kind() == "DictType":
            paths = [(output,)]
    names = tuple(".".join(map(str, path)) for path in paths)
    place = place_of(names, output, what, _described(kind, names))
    chosen = OneOutput(network, paths[place])
    _take_out_the_rest(chosen.graph)
    return chosen, names, names[place]


def _tensors(kind: Any, made: Any) -> Iterator[Path]:
    """Yield the places of the tensors in what is returned, as far as the graph shows them.

    `kind` is the type of what is returned, and `made` the value of the graph, or None.
    """
    node = None if made is None else made.node()
    if kind.kind() == "TensorType":
        yield ()
    elif kind.kind() == "TupleType":
        parts = _inputs_if(node, "prim::TupleConstruct")
        for place, element in enumerate(kind.elements()):
            inner = parts[place] if place < len(parts) else None
            yield from ((place, *rest) for rest in _tensors(element, inner))
    elif kind.kind() == "ListType":
        for place, inner in enumerate(_inputs_if(node, "prim::ListConstruct")):
            yield from ((place, *rest) for rest in _tensors(kind.getElementType(), inner))
    elif kind.kind() == "DictType" and node is not None:
        for key, inner in _items(made).items():
            yield from ((key, *rest) for rest in _tensors(kind.getValueType(), inner))


def _inputs_if(node: Any, kind: str) -> list[Any]:
    return list(node.inputs()) if node is not None and node.kind() == kind else []


def _items(made: Any) -> dict[str, Any]:
    """Return what a dictionary of the graph is made of, by names that are texts."""
    flat = _inputs_if(made.node(), "prim::DictConstruct")
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    for use in made.uses():
        if use.user.kind() == "aten::_set_item":
            _, key, value = use.user.inputs()
            pairs.append((key, value))
    return {name: value for key, value in pairs if isinstance(name := key.toIValue(), str)}


def _described(kind: Any, names: tuple[str, ...]) -> str:
    """Return in words what is returned."""
    inside = f" ({listed(names)})" if names else ""
    match kind.kind():
        case "DictType":
            return f"a dictionary{inside}"
        case "ListType":
            return f"a list{inside}"
        case "TupleType":
            return f"a tuple of {len(kind.elements())}{inside}"
        case _:
            return f"a {kind.annotation_str}"


def _take_out_the_rest(graph: Any) -> None:
    """Take out of a graph, before it is first run, what its output does not need."""
    torch._C._jit_pass_inline(graph)
    for _ in range(ROUNDS):
        torch._C._jit_pass_peephole(graph)
        opened = _open_tuples(graph) + _open_dictionaries(graph)
        torch._C._jit_pass_dce(graph)
        if not opened:
            return


def _open_tuples(graph: Any) -> int:
    """Take what is taken out of tuples from where it was put in; return how often."""
    opened = 0
    for node in list(graph.nodes()):
        inputs = list(node.inputs())
        parts = _inputs_if(inputs[0].node(), "prim::TupleConstruct") if inputs else []
        if not parts:
            continue
        if node.kind() == "prim::TupleUnpack":
            taken = list(zip(node.outputs(), parts, strict=True))
        elif node.kind() == "prim::TupleIndex" and isinstance(inputs[1].toIValue(), int):
            taken = [(node.output(), parts[inputs[1].toIValue()])]
        else:
            continue
        for value, part in taken:
            value.replaceAllUsesWith(part)
        opened += 1
    return opened


def _open_dictionaries(graph: Any) -> int:
    """Do the same with dictionaries that are written and read in one block of the code only."""
    nodes = list(graph.nodes())
    used: dict[str, int] = {}
    for node in nodes:
        for value in node.inputs():
            if node.kind() in ("aten::_set_item", "aten::__getitem__"):
                used[value.debugName()] = used.get(value.debugName(), 0) + 1
    held: dict[str, dict[str, Any]] = {}
    opened = 0
    for node in nodes:
        inputs = list(node.inputs())
        if node.kind() == "prim::DictConstruct":
            made = node.output()
            keys = [key.toIValue() for key in inputs[::2]]
            # Every use is a writing or a reading in the order of these nodes.
            if len(made.uses()) == used.get(made.debugName(), 0) and None not in keys:
                held[made.debugName()] = dict(zip(keys, inputs[1::2], strict=True))
        elif inputs and (items := held.get(inputs[0].debugName())) is not None:
            key = inputs[1].toIValue()
            if node.kind() == "aten::_set_item" and key is not None:
                items[key] = inputs[2]
            elif node.kind() == "aten::__getitem__" and key in items:
                node.output().replaceAllUsesWith(items[key])
                opened += 1
            else:
                del held[inputs[0].debugName()]
    return opened
