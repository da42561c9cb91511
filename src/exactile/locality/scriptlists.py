"""Tensors that TorchScript makes of lists, such as `torch.tensor([0.5, 2.0])` or `y[:, [2, 1, 0]]`.

Their numbers are written into memory that a tensor without data does not have, and the process
dies. Where the list is fixed the tensor is made once, beforehand, by torch's own folding of
constants, which leaves alone what the code changes. Any other list is refused before it is run.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from exactile.errors import ModelError
from exactile.locality.scriptgraph import ScriptGraph

OF_LISTS = ("aten::tensor", "aten::as_tensor")


def settle_lists(network: nn.Module) -> None:
    """Make the tensors of fixed lists in a network's TorchScript; what it computes stays the same.

    Raises:
        ModelError: if there is a list that is not fixed.
    """
    inner: set[nn.Module] = set()
    for part in network.modules():
        if not isinstance(part, torch.jit.ScriptModule) or part in inner:
            continue
        inner.update(part.modules())
        if not hasattr(part, "forward"):
            continue
        forward: Any = part.forward
        graph = forward.graph
        # Graphs of its parts may have been put in their places before, as they were then.
        torch._C._jit_pass_inline(graph)
        torch._C._jit_pass_constant_propagation(graph)
        _refuse_lists(part)


def _refuse_lists(network: nn.Module) -> None:
    for node in ScriptGraph(network).nodes():
        kind = node.kind()
        if kind in OF_LISTS and next(node.inputs()).type().kind() == "ListType":
            raise ModelError(
                f"its code makes a tensor of a list of numbers that are computed or kept in an "
                f"attribute ({kind}), which cannot be traced; keep them in a buffer "
                "(register_buffer), or write the numbers down where they are used"
            )
