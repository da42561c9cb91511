"""Running a network on tensors without data, for the shapes that it makes.

Numbers that a network computes of sizes are tensors in traced networks: `pad` by half of a
difference. On tensors without data they would lose their values, and what needs them would fail. So
what is computed from such numbers alone is computed, here as where locality is traced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from exactile.locality.constants import compute, has_values


def carried_out(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what an operator gives, with values where all that it takes has values."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    if not any(isinstance(tensor, FakeTensor) for tensor in tensors):
        args = _numbers_as_tensors(func, args)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    if has_values(func, tensors):
        return compute(func, args, kwargs)
    return func(*args, **kwargs)


def _numbers_as_tensors(func: OpOverload, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments with tensors where TorchScript's tensors of numbers arrive as numbers."""
    wanted = [str(argument.type) == "Tensor" for argument in func._schema.arguments]
    with unset_fake_temporarily():
        return tuple(
            torch.tensor(value) if tensor and isinstance(value, (bool, int, float)) else value
            for value, tensor in zip(args, wanted, strict=False)
        )


class Shapes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While entered inside a mode of fake tensors, keeps the values of numbers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operator."""
        return carried_out(func, args, kwargs or {})
