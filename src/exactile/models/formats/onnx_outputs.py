"""The outputs of an ONNX model: which one is segmented, without what only the others need."""

from __future__ import annotations

from typing import Any

from exactile.models.formats.selection import listed, place_of


def choose_output(model: Any, output: str | None, what: str) -> tuple[tuple[str, ...], str]:
    """Leave `model` with the output `output` alone; return the names of all, and its own.

    Both are empty where there is one.

    Raises:
        ModelError: if there are several and none is said, or if there is no such output.
    """
    graph = model.graph
    names = tuple(value.name for value in graph.output)
    place = place_of(names, output, what, f"{len(names)} tensors ({listed(names)})")
    if len(names) == 1:
        return (), ""
    kept = graph.output[place]
    del graph.output[:]
    graph.output.append(kept)
    _take_out_the_rest(graph)
    return names, names[place]


def _take_out_the_rest(graph: Any) -> None:
    """Remove the nodes that the graph's outputs do not need."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
            for attribute in node.attribute:
                for inner in (attribute.g, *attribute.graphs):
                    needed.update(name for each in _nodes(inner) for name in each.input)
                    needed.update(value.name for value in inner.output)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def _nodes(graph: Any) -> list[Any]:
    """Return the nodes of a graph inside another, and of those inside it."""
    found = list(graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                found.extend(_nodes(inner))
    return found
