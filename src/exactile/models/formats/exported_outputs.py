"""The outputs of a program of `torch.export`: their names, and a network that returns one of them.

What only the other outputs need is taken out of the graph, so that it is neither run nor counted
when it is said what the output depends on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import (
    MappingKey,
    SequenceKey,
    tree_flatten_with_path,
    tree_leaves,
    tree_unflatten,
)

from exactile.models.formats.selection import listed, place_of


class OneOutput(nn.Module):
    """A network of which one of the tensors that it returns is returned."""

    def __init__(self, network: nn.Module, place: int) -> None:
        super().__init__()
        self.network = network
        self.place = place

    def forward(self, image: Tensor) -> Tensor:
        """Return the one output for `image`."""
        found: Tensor = tree_leaves(self.network(image))[self.place]
        return found


def choose_output(
    program: torch.export.ExportedProgram, output: str | None, what: str
) -> tuple[nn.Module, tuple[str, ...], str]:
    """Return the network that returns the output `output`, the names of all, and its own.

    A network that returns a tensor is returned as it is, without names.

    Raises:
        ModelError: if there are several and none is said, or if there is no such output.
    """
    network: Any = program.module()
    values = [
        argument.meta.get("val") if isinstance(argument, torch.fx.Node) else argument
        for argument in program.graph.output_node().args[0]
    ]
    mine = values[len(values) - len(program.graph_signature.user_outputs) :]
    tensors = [place for place, value in enumerate(mine) if isinstance(value, Tensor)]
    tree = program.call_spec.out_spec
    if (
        len(mine) == len(tensors) == 1
        and (tree is None or tree.is_leaf())
        and output in (None, "0")
    ):
        return network, (), ""
    names = _names(tree, len(mine))
    of_tensors = tuple(names[place] for place in tensors)
    returned = f"{len(tensors)} tensors ({listed(of_tensors)})"
    chosen = place_of(of_tensors, output, what, returned)
    _take_out_the_rest(network, tensors[chosen])
    return OneOutput(network, tensors[chosen]), of_tensors, of_tensors[chosen]


def _names(tree: Any, count: int) -> list[str]:
    """Return the names of outputs in a tree of containers: keys, and places from 0."""
    if tree is None:
        return [str(place) for place in range(count)]
    leaves, _ = tree_flatten_with_path(tree_unflatten(list(range(count)), tree))
    return [".".join(map(_step, path)) or "0" for path, _ in leaves]


def _step(key: Any) -> str:
    if isinstance(key, MappingKey):
        return str(key.key)
    return str(key.idx) if isinstance(key, SequenceKey) else str(key).lstrip(".")


def _take_out_the_rest(network: torch.fx.GraphModule, place: int) -> None:
    """Let `network` return None in place of all its outputs but one, and forget how they come."""
    node = network.graph.output_node()
    (returned,) = node.args
    kept = tuple(
        value if index == place else None
        for index, value in enumerate(returned)  # type: ignore[arg-type]
    )
    node.args = (kept,)
    network.graph.eliminate_dead_code()
    network.recompile()
