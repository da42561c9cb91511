"""Which modules of a TorchScript network called an operator: read from their graphs.

TorchScript runs without the hooks by which `ModulePath` follows eager modules, so a refusal knows
the operator alone. The modules that may have called it are those whose graph holds it while the
graphs of their own parts do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from exactile.locality.refusal import NotLocal, Refusal

SHOWN = 3
"""How many modules a refusal names."""

WRITTEN_AS = {
    "native_batch_norm": ("instance_norm", "batch_norm"),
    "native_group_norm": ("group_norm",),
    "native_layer_norm": ("layer_norm",),
    "mean": ("mean", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    "_adaptive_avg_pool2d": ("adaptive_avg_pool2d",),
    "_adaptive_avg_pool3d": ("adaptive_avg_pool3d",),
    "bmm": ("matmul", "bmm", "einsum", "scaled_dot_product_attention"),
    "_scaled_dot_product_flash_attention_for_cpu": ("scaled_dot_product_attention",),
    "addmm": ("linear", "addmm", "matmul"),
    "convolution": ("conv2d", "conv3d", "conv_transpose2d", "conv_transpose3d", "_convolution"),
    "copy": ("pad",),
}
"""Names in a graph of what arrives under another name, the more telling ones first."""


@contextmanager
def named(module: nn.Module) -> Iterator[None]:
    """Name the modules of a TorchScript network, which cannot be followed, in a refusal."""
    try:
        yield
    except NotLocal as refused:
        if not isinstance(module, torch.jit.ScriptModule):
            raise
        raise NotLocal(located(module, refused.refusals)) from None


def located(module: torch.jit.ScriptModule, refusals: tuple[Refusal, ...]) -> tuple[Refusal, ...]:
    """Return `refusals` with the modules of the TorchScript network that may be meant."""
    return tuple(
        replace(refusal, module=", ".join(found)) if found else refusal
        for refusal in refusals
        for found in [_callers(module, refusal.operator.removeprefix("aten."))]
    )


def _callers(module: torch.jit.ScriptModule, operator: str) -> list[str]:
    """Return paths and classes of the innermost modules that call `operator`, SHOWN at most."""
    for name in WRITTEN_AS.get(operator, (operator,)):
        calling = {
            path: part for path, part in module.named_modules() if f"aten::{name}" in _kinds(part)
        }
        inner = [
            f"{path or 'model'} ({getattr(part, 'original_name', type(part).__name__)})"
            for path, part in calling.items()
            if not any(_inside(other, path) for other in calling)
        ]
        if inner:
            more = [f"{len(inner) - SHOWN} more modules"] if len(inner) > SHOWN else []
            return inner[:SHOWN] + more
    return []


def _inside(path: str, outer: str) -> bool:
    return path != outer and path.startswith(f"{outer}." if outer else "")


def _kinds(module: nn.Module) -> set[str]:
    """Return the kinds of all nodes of a module's graph, those of its parts included."""
    graph = getattr(module, "inlined_graph", None)
    return set() if graph is None else set(_of_block(graph))


def _of_block(block: Any) -> Iterator[str]:
    for node in block.nodes():
        yield node.kind()
        if node.kind() == "prim::Constant" and node.hasAttribute("name"):
            # A function of torch.nn.functional that has not been put in its caller's place yet.
            yield f"aten::{node.s('name')}"
        for inner in node.blocks():
            yield from _of_block(inner)
