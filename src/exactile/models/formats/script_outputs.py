"""The outputs of a TorchScript network: their names, and a network that returns one of them.

What is returned may be tensors in tuples, lists and dictionaries, one in another. The network that
returns one of them is made of the same code; what only the others need is taken out of it, so that
it is neither run nor counted when it is said what the output depends on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from exactile.errors import ModelError
from exactile.models.formats.selection import listed, place_of

Path = tuple[int | str, ...]
"""Places in tuples and lists, and names in dictionaries, from the outside inwards."""

FILLS = ("aten::_set_item", "aten::append")
MAKES_A_CONTAINER = ("prim::DictConstruct", "prim::ListConstruct")
NO_TENSORS = ("IntType", "FloatType", "BoolType", "StringType", "NoneType", "NumberType")

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
    graph = network.inlined_graph
    found = list(_tensors(kind, next(graph.outputs()), _fillings(graph)))
    paths = [path for path in found if path is not None]
    if not paths and output is not None:
        # What a list or a dictionary holds may be known only when the network is run.
        if kind.kind() == "ListType" and output.isdecimal():
            paths = [(int(output),)]
        elif kind.kind() == "DictType":
            paths = [(output,)]
    names = tuple(".".join(map(str, path)) for path in paths)
    returned = _described(kind, names)
    place = place_of(names, output, what, returned, more=len(found) > len(paths))
    try:
        chosen = OneOutput(network, paths[place])
    except RuntimeError as error:
        raise ModelError(
            f"--output {names[place]}: {what} has no such output; it returns {returned}"
        ) from error
    _take_out_the_rest(chosen.graph)
    return chosen, names, names[place]


def _tensors(kind: Any, made: Any, fillings: Counter[str]) -> Iterator[Path | None]:
    """Yield the places of the tensors in what is returned, and None for what the graph hides.

    `kind` is the type of what is returned, `made` the value of the graph, or None, and `fillings`
    how often containers are filled outside of inner blocks.
    """
    node = None if made is None else made.node()
    if kind.kind() == "TensorType":
        yield ()
    elif kind.kind() == "TupleType":
        parts = _inputs_if(node, "prim::TupleConstruct")
        for place, element in enumerate(kind.elements()):
            inner = parts[place] if place < len(parts) else None
            yield from _under(place, _tensors(element, inner, fillings))
    elif kind.kind() in ("ListType", "DictType") and node is not None:
        inner_kind = kind.getElementType() if kind.kind() == "ListType" else kind.getValueType()
        contents = _contents(made, fillings)
        for key, inner in contents.items():
            yield from _under(key, _tensors(inner_kind, inner, fillings))
        if not contents:
            yield None
    elif kind.kind() not in NO_TENSORS:
        yield None


def _under(step: int | str, paths: Iterator[Path | None]) -> Iterator[Path | None]:
    return (None if path is None else (step, *path) for path in paths)


def _inputs_if(node: Any, kind: str) -> list[Any]:
    return list(node.inputs()) if node is not None and node.kind() == kind else []


def _contents(made: Any, fillings: Counter[str]) -> dict[int | str, Any]:
    """Return what a container of the graph is filled with; nothing where that is not certain."""
    if made.node().kind() not in MAKES_A_CONTAINER:
        return {}
    items = _given(made.node())
    filling = [use.user for use in made.uses() if use.user.kind() in FILLS and use.offset == 0]
    if len(filling) != fillings[made.debugName()]:
        # A loop fills it, or one of two branches.
        return {}
    keys = [_filled(node, items) for node in filling]
    if not all(isinstance(key, (int, str)) for key in (*items, *keys)):
        return {}
    return items


def _fillings(graph: Any) -> Counter[str]:
    """Return how often each container is filled in the graph itself, not in an inner block."""
    return Counter(
        next(node.inputs()).debugName() for node in graph.nodes() if node.kind() in FILLS
    )


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
        opened = _open_tuples(graph) + _open_containers(graph)
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


def _open_containers(graph: Any) -> int:
    """Do the same with lists and dictionaries that are filled and read in one block only."""
    nodes = list(graph.nodes())
    here = _filled_here(nodes)
    held: dict[str, dict[int | str, Any]] = {}
    opened = 0
    for node in nodes:
        inputs = list(node.inputs())
        if node.kind() in MAKES_A_CONTAINER and here[node.output().debugName()]:
            held[node.output().debugName()] = _given(node)
        elif inputs and (items := held.get(inputs[0].debugName())) is not None:
            key = _filled(node, items)
            if key in items and node.kind() == "aten::__getitem__":
                node.output().replaceAllUsesWith(items[key])
                opened += 1
            elif node.kind() == "aten::__getitem__" or key is None:
                del held[inputs[0].debugName()]
    unread = [
        use.user
        for node in nodes
        if node.kind() in MAKES_A_CONTAINER and node.output().debugName() in held
        if all(use.user.kind() in FILLS and use.offset == 0 for use in node.output().uses())
        for use in node.output().uses()
    ]
    for node in unread:
        node.destroy()
    return opened + len(unread)


def _filled_here(nodes: list[Any]) -> dict[str, bool]:
    """Return for each container made by one of `nodes` whether they alone fill and read it.

    It is used nowhere else then, neither in an inner block nor by who could change it.
    """
    used: Counter[str] = Counter()
    for node in nodes:
        if node.kind() in (*FILLS, "aten::__getitem__"):
            used[next(node.inputs()).debugName()] += 1
    return {
        node.output().debugName(): len(node.output().uses()) == used[node.output().debugName()]
        for node in nodes
        if node.kind() in MAKES_A_CONTAINER
    }


def _given(node: Any) -> dict[int | str, Any]:
    """Return what a container is made with, by place or by name."""
    inputs = list(node.inputs())
    if node.kind() == "prim::ListConstruct":
        return dict(enumerate(inputs))
    return {key.toIValue(): value for key, value in zip(inputs[::2], inputs[1::2], strict=True)}


def _filled(node: Any, items: dict[int | str, Any]) -> int | str | None:
    """Return the place that a node fills, in `items` too, or reads; None where it is not known."""
    inputs = list(node.inputs())
    if node.kind() == "aten::append":
        items[len(items)] = inputs[1]
        return len(items) - 1
    key: int | str | None = inputs[1].toIValue()
    if node.kind() == "aten::_set_item" and key is not None:
        items[key] = inputs[2]
    if isinstance(key, int) and key < 0:
        key += len(items)
    return key
