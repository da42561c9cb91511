"""What TorchScript code may learn of a tensor beside its values: its size and its type.

A trial runs on tensors without data. Code that asks whether a tensor has data, how it lies in
memory, or what time it is, could do one thing in a trial and another in a run.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from exactile.errors import ModelError
from exactile.locality.scriptgraph import ScriptGraph

LEARNED = frozenset(
    (
        *("aten::size", "aten::dim", "aten::len", "aten::numel", "aten::is_floating_point"),
        *("aten::is_complex", "aten::__is__", "aten::__isnot__", "aten::item", "aten::Bool"),
        *("aten::Int", "aten::Float", "aten::IntImplicit", "aten::FloatImplicit"),
        *("aten::ScalarImplicit", "aten::equal", "aten::allclose", "aten::is_nonzero"),
        *("aten::_shape_as_tensor", "aten::is_same_size", "aten::__contains__", "aten::format"),
        *("prim::dtype", "prim::device", "prim::layout", "prim::is_cuda", "prim::is_cpu"),
        *("prim::is_quantized", "prim::is_sparse", "prim::is_nested", "prim::requires_grad"),
        *("prim::isinstance", "prim::RaiseException", "prim::Print", "prim::If", "prim::Loop"),
        *("aten::is_quantized", "aten::is_grad_enabled", "prim::grad", "prim::unchecked_cast"),
    )
)
"""Operators that make plain values of tensors: sizes, types, and values that a trial lacks."""

PLAIN = ("IntType", "FloatType", "BoolType", "NumberType", "StringType", "ComplexType")


def refuse_looks(network: nn.Module) -> None:
    """Raise `ModelError` if code of a TorchScript network asks for more than sizes and types."""
    for node in list(ScriptGraph(network).nodes()):
        kind = node.kind()
        kinds = {value.type().kind() for value in node.inputs()}
        if kind in LEARNED or not any(_is_plain(output) for output in node.outputs()):
            continue
        if "TensorType" in kinds or (kind.startswith("aten::") and not kinds):
            raise ModelError(
                f"its code asks for more than the size and the type of a tensor ({kind}), so what "
                "it does need not be what a trial shows; export the network without it"
            )
        if kind == "prim::TimePoint":
            raise ModelError(
                f"its code looks at the time ({kind}), so no two passes agree; export the network "
                "without it"
            )


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, a truth, a text, or a list of numbers."""
    kind = value.type()
    if kind.kind() == "ListType":
        kind = kind.getElementType()
    return kind.kind() in PLAIN
