"""States that a TorchScript network keeps: read from its code, whether it runs in a trial or not.

Whoever changes an attribute makes a pass depend on those before it, if only from the hundredth one
on. A change is allowed to what the same call has made, and to nothing else: then it does not matter
on which way (an attribute, an entry of an attribute, a constant) an object outlives the call.
"""

from __future__ import annotations

from torch import nn

from exactile.locality.refusal import KeepsState
from exactile.locality.scriptgraph import CONTAINERS, ScriptGraph, schema_of

OUT_OF_SIGHT = frozenset(
    ("prim::CallMethod", "prim::CallFunction", "prim::PythonOp", "prim::fork", "prim::rpc_async")
)
"""Calls of code that the graph does not show."""


def refuse_script_state(network: nn.Module) -> None:
    """Raise `KeepsState` if code of a TorchScript network changes what outlives a call."""
    graph = ScriptGraph(network)
    # The whole graph first: a loop may change what the code before it was given.
    for node in list(graph.nodes()):
        kind, inputs = node.kind(), list(node.inputs())
        if kind in OUT_OF_SIGHT:
            raise KeepsState(
                f"its code calls what it does not show ({kind}), so whether it keeps a state is "
                "not known; export the network without it"
            )
        if kind == "prim::SetAttr" and inputs[0].node().kind() != "prim::CreateObject":
            raise KeepsState(
                f"keeps a state: its code changes the attribute {node.s('name')!r} of a module "
                "while it runs, so that no two passes agree; export the network without it"
            )
        schema = schema_of(node.schema())
        if schema is None:
            continue
        for argument, value in zip(schema.arguments, inputs, strict=False):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            if value.type().kind() in CONTAINERS and not graph.is_fresh(value):
                raise KeepsState(
                    f"keeps a state: its code changes a list or a dictionary ({kind}) that "
                    "outlives the call, so that no two passes agree; export the network without it"
                )
            if value.type().kind() == "TensorType" and graph.outlives(value):
                raise KeepsState(
                    f"keeps a state: its code writes ({kind}) into a tensor that it holds, so that "
                    "no two passes agree; export the network without it"
                )
