"""From the model of a file to a network: subgraphs and functions put in place, constants computed.

What follows from constants alone (weights behind an Identity, scaled, shared, given by a node) is
computed once, so that a convolution sees a weight and nothing that might follow from the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    inliner,
    numpy_helper,
)
from onnx import helper as onnx_helper

from exactile.models.onnx import operators  # noqa: F401 - enters them in the tables
from exactile.models.onnx.network import RUN_ERRORS, GraphNetwork, Node
from exactile.models.onnx.registry import OPERATORS, Constant, Unsupported, Value, numbers_of

STANDARD = ("", "ai.onnx")
"""Names of the domain of ONNX's own operators."""

NARROWED = {torch.float64: torch.float32}
"""Constants of this type are computed with in float32, where they are single numbers."""


def build(model: ModelProto, image: str, output: str) -> GraphNetwork:
    """Return the network from the input `image` to the output `output` of `model`.

    The tensors of the model must be in it, not in other files.

    Raises:
        Unsupported: if a node is not known here; the text names it.
    """
    if model.functions:
        model = inliner.inline_local_functions(model)
    opset = max(
        (entry.version for entry in model.opset_import if entry.domain in STANDARD), default=1
    )
    constants = {tensor.name: _constant(tensor) for tensor in model.graph.initializer}
    for tensor in model.graph.sparse_initializer:
        raise Unsupported(f"the weight {tensor.values.name} is sparse")
    nodes: list[Node] = []
    for proto in _leading_to(output, list(_inlined(model.graph, constants))):
        node = _node(proto, opset)
        values = [constants.get(name) if name else None for name in node.inputs]
        if all(
            value is not None or not name for value, name in zip(values, node.inputs, strict=True)
        ):
            constants.update(_computed(node, values))
        else:
            nodes.append(node)
    return GraphNetwork(nodes, constants, image, output)


def _inlined(graph: GraphProto, constants: dict[str, Constant]) -> Iterator[NodeProto]:
    """Yield the nodes of a graph; of a choice by a constant, those of the branch that is taken."""
    for node in graph.node:
        if node.op_type != "If" or node.domain not in STANDARD:
            yield node
            continue
        condition = constants.get(node.input[0])
        if condition is None:
            raise Unsupported(f"operator If ({_name(node)}) chooses by what follows from the image")
        wanted = "then_branch" if bool(condition.tensor) else "else_branch"
        branch: GraphProto = next(entry.g for entry in node.attribute if entry.name == wanted)
        constants.update({tensor.name: _constant(tensor) for tensor in branch.initializer})
        yield from _inlined(branch, constants)
        for inner, outer in zip(branch.output, node.output, strict=True):
            yield onnx_helper.make_node("Identity", [inner.name], [outer])


def _leading_to(output: str, nodes: list[NodeProto]) -> list[NodeProto]:
    """Return the nodes that `output` follows from, in their order."""
    needed, kept = {output}, []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(filter(None, node.input))
    return kept[::-1]


def _name(node: NodeProto) -> str:
    return str(node.name or next(iter(node.output), "") or node.op_type)


def _node(proto: NodeProto, opset: int) -> Node:
    if proto.domain not in STANDARD:
        raise Unsupported(
            f"operator {proto.op_type} ({_name(proto)}) of {proto.domain} is not known here"
        )
    if proto.op_type not in OPERATORS:
        raise Unsupported(f"operator {proto.op_type} ({_name(proto)}) is not known here")
    return Node(
        operator=proto.op_type,
        name=_name(proto),
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes={entry.name: _attribute(entry, _name(proto)) for entry in proto.attribute},
        opset=opset,
    )


def _attribute(entry: AttributeProto, node: str) -> Any:
    if entry.type == AttributeProto.TENSOR:
        return _constant(entry.t)
    if entry.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS, AttributeProto.SPARSE_TENSOR):
        raise Unsupported(f"the node {node} holds {entry.name}, which is not known here")
    value = onnx_helper.get_attribute_value(entry)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return list(value) if entry.type in (AttributeProto.INTS, AttributeProto.FLOATS) else value


def _constant(tensor: TensorProto) -> Constant:
    array = np.array(numpy_helper.to_array(tensor))
    if array.dtype.kind not in "biuf":
        kind = TensorProto.DataType.Name(tensor.data_type)
        raise Unsupported(f"the constant {tensor.name} is of type {kind}")
    return _narrowed(torch.from_numpy(array))


def _narrowed(tensor: torch.Tensor) -> Constant:
    """Return a constant; single numbers of float64 are of float32, as the rest of a network."""
    if tensor.numel() == 1:
        tensor = tensor.to(NARROWED.get(tensor.dtype, tensor.dtype))
    return Constant(tensor, numbers_of(tensor))


def _computed(node: Node, values: list[Constant | None]) -> dict[str, Constant]:
    """Return what a node makes of constants."""
    try:
        with torch.no_grad():
            result = node.run(values)
    except Unsupported:
        raise
    except RUN_ERRORS as error:
        raise Unsupported(f"operator {node.operator} ({node.name}): {error}") from error
    results = result if isinstance(result, tuple) else (result,)
    return {
        name: _as_constant(value)
        for name, value in zip(node.outputs, results, strict=False)
        if name and value is not None
    }


def _as_constant(value: Value) -> Constant:
    if isinstance(value, Constant):
        return value
    if isinstance(value, np.ndarray):
        return _narrowed(torch.tensor(value.tolist()))
    return _narrowed(value)
