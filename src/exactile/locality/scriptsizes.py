"""Branches and loops of TorchScript that look at the image's size, found without running them.

Tracing sees what a network does at some sizes. That it does the same at the sizes of a run is seen
when these are known (`confirmation`); until then it is said which code could do something else.
What ends in an error does not count: a network that does not run gives nothing wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from exactile.locality.scriptgraph import ScriptGraph

SIZES = ("aten::size", "aten::numel", "aten::sym_size", "aten::sym_numel", "aten::is_same_size")
NO_SIZES = ("aten::dim", "aten::__is__", "aten::__isnot__", "prim::isinstance", "prim::dtype")
"""Operators whose results follow from no number of pixels, whatever they are given."""

PLACE = re.compile(r'File "(?:[^"/]*/)*([^"/]*)"')
MARKED = re.compile(r"^ *(.*?) *\n *~+", re.MULTILINE)
"""The first line that torch underlines where it shows the place of a node."""


def looks_at_sizes(network: nn.Module) -> tuple[str, ...]:
    """Return the lines of a network's TorchScript that branch on, or count to, the image's size."""
    found: dict[str, None] = {}
    inner: set[nn.Module] = set()
    for part in network.modules():
        if not isinstance(part, torch.jit.ScriptModule) or part in inner:
            continue
        inner.update(part.modules())
        if hasattr(part, "forward"):
            graph = ScriptGraph(part)
            nodes = list(graph.nodes())
            image = [value.debugName() for value in list(part.inlined_graph.inputs())[1:]]
            for node in nodes:
                if any(_follows(graph, value, image, set()) for value in _conditions(node)):
                    found[_line(node)] = None
    return tuple(found)


def _conditions(node: Any) -> Iterator[Any]:
    """Yield what decides which code runs, or how often."""
    inputs = list(node.inputs())
    if node.kind() == "prim::If" and not _is_check(node):
        yield inputs[0]
    elif node.kind() == "prim::Loop":
        (body,) = node.blocks()
        yield from (*inputs[:2], next(body.outputs()))


def _is_check(branch: Any) -> bool:
    """Whether a branch raises an error, or touches no tensor and makes nothing."""
    blocks = [list(_within(block)) for block in branch.blocks()]
    if any(node.kind() == "prim::RaiseException" for nodes in blocks for node in nodes[-1:]):
        return True
    touched = (value for nodes in blocks for node in nodes for value in node.inputs())
    return not list(branch.outputs()) and all(v.type().kind() != "TensorType" for v in touched)


def _within(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        for inner in node.blocks():
            yield from _within(inner)
        yield node


def _follows(graph: ScriptGraph, value: Any, image: list[str], seen: set[str]) -> bool:
    """Whether `value` is computed from how many pixels there are."""
    name, node = value.debugName(), value.node()
    if name in seen or node.kind() in NO_SIZES:
        return False
    seen.add(name)
    if name in graph.sources:
        return any(_follows(graph, source, image, seen) for source in graph.sources[name])
    inputs = list(node.inputs())
    if node.kind() == "aten::len":
        return bool(inputs[0].type().kind() == "TensorType")
    if node.kind() == "aten::__getitem__" and inputs[0].node().kind() in SIZES:
        return not _of_channels(next(inputs[0].node().inputs()), inputs[1], image)
    if node.kind() in SIZES:
        return len(inputs) < 2 or not _of_channels(inputs[0], inputs[1], image)
    return any(_follows(graph, operand, image, seen) for operand in inputs)


def _of_channels(tensor: Any, dimension: Any, image: list[str]) -> bool:
    """Whether this is the image's number of channels, or the number of images in the batch."""
    return tensor.debugName() in image and dimension.toIValue() in (0, 1)


def _line(node: Any) -> str:
    """Return the line of code of a node, and the name of the file where it stands."""
    text = node.sourceRange()
    place, line = PLACE.search(text), MARKED.search(text)
    return f"{line[1] if line else node.kind()} ({place[1] if place else 'no file'})"
