"""Networks whose export fixed the size of the image, and which size that is.

A traced graph may hold sizes of the one image that it was traced with: in a reshape, or as the
target of an up-sampling. Such a network fails at other sizes, or returns its one size for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, product
from typing import Any

import torch
from torch import Tensor, fx, nn

from exactile.locality.dry_run import without_data
from exactile.locality.run import RUN_ERRORS

USUAL = (256, 512, 128, 1024, 64, 224, 384, 320, 768, 96, 192, 160, 32, 100, 200, 400, 500, 572)
"""Sides that networks are often exported with, the most frequent first."""

LEAST, LARGEST = 8, 4096
"""Sides that are tried."""

HALVINGS = 6
"""How often a side may have been halved where its number stands in the graph."""

SMALL = 16
"""Elements of a tensor of sizes, at most."""

TRIALS = 200
"""Runs before the search ends; each is one without computation."""


def explain_fixed_size(network: nn.Module, channels: int, dimensions: int) -> str | None:
    """Return in words which size of the image a network was fixed to, or None where it was not.

    `dimensions` is 2 for planes and 3 for volumes. The network runs on tensors without data, at
    sizes that its graph names and at those in frequent use.
    """
    sides = _sides(network)
    results: dict[tuple[int, ...], tuple[int, ...]] = {}
    squares = [(side,) * dimensions for side in sides]
    others = (extent for extent in product(sides[:12], repeat=dimensions) if len(set(extent)) > 1)
    for count, extent in enumerate(chain(squares, others)):
        if count >= TRIALS or (count >= len(squares) and results):
            break
        shape = _result(network, (1, channels, *extent))
        if shape is not None:
            results[extent] = shape
        if len(set(results.values())) > 1:
            return None
    if not results:
        return None
    if len(results) == 1:
        return f"this export only takes {_words(next(iter(results)))} pixels"
    shape = next(iter(results.values()))
    return f"this export returns {_words(shape[2:])} pixels whatever the size of the image"


def _words(extent: tuple[int, ...]) -> str:
    return " x ".join(map(str, extent))


def _result(network: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape of the network's output, or None where it cannot run."""
    try:
        with without_data(network, shape[1], shape[2:]) as image:
            output = network(image)
    except RUN_ERRORS:
        return None
    return tuple(map(int, output.shape)) if isinstance(output, Tensor) else None


def _sides(network: nn.Module) -> list[int]:
    """Return the sides to try: those that the graph points at, then the usual ones."""
    pointed = {
        number << halvings
        for number in _numbers(network)
        for halvings in range(HALVINGS)
        if LEAST <= number << halvings <= LARGEST
    }
    return list(dict.fromkeys([*sorted(pointed - set(USUAL)), *USUAL]))


def _numbers(network: nn.Module) -> Iterator[int]:
    """Yield the whole numbers that stand in the network's graphs."""
    for module in network.modules():
        if isinstance(module, torch.jit.ScriptModule):
            if module is network or not isinstance(network, torch.jit.ScriptModule):
                yield from _of_script(module.inlined_graph)
        elif isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                yield from _of_value([*node.args, *node.kwargs.values()])
    for buffer in network.buffers():
        if not buffer.is_floating_point() and 0 < buffer.numel() <= SMALL:
            yield from map(int, buffer.flatten().tolist())


def _of_script(graph: Any) -> Iterator[int]:
    for node in graph.nodes():
        for block in node.blocks():
            yield from _of_script(block)
        if node.kind() == "prim::Constant":
            yield from _of_value(next(node.outputs()).toIValue())


def _of_value(value: Any) -> Iterator[int]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _of_value(item)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value
    elif isinstance(value, Tensor) and not value.is_floating_point() and value.numel() <= SMALL:
        yield from map(int, value.flatten().tolist())
