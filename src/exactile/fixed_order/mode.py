"""The dispatch mode that puts replacements in the place of operators."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from exactile.fixed_order import (  # noqa: F401 - importing a family registers its replacements
    activation,
    convolution,
    reduction,
    resampling,
    vectors,
)
from exactile.fixed_order.registry import REPLACEMENTS

aten = torch.ops.aten
DispatchKey = torch._C.DispatchKey
TYPES = (torch.float32, torch.bfloat16)

COMPOSITE = (
    *(getattr(aten, f"conv{n}d") for n in (1, 2, 3)),
    *(getattr(aten, f"conv_transpose{n}d") for n in (1, 2, 3)),
    *(aten.upsample_linear1d, aten.upsample_bilinear2d, aten.upsample_trilinear3d),
    *(aten.upsample_bicubic2d, aten._convolution_mode, aten.selu),
    *(aten.selu_, aten.softmax, aten.log_softmax),
)
"""Inference mode hands these over whole; PyTorch itself takes them apart into what is replaced."""


class FixedOrder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While entered, gives operators on a CPU one order of summation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        replacement = REPLACEMENTS.get(func)
        if replacement is not None and _applies(args):
            result = replacement(*args, **kwargs)
            if result is not NotImplemented:
                return result
        elif func.overloadpacket in COMPOSITE and _is_composite(func):
            with self:
                # Not `decompose`, which prefers some decompositions written in Python.
                return func._op_dk(DispatchKey.CompositeImplicitAutograd, *args, **kwargs)
        return func(*args, **kwargs)


def fixed_order(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which networks on `device` compute in a fixed order: a CPU's only."""
    return FixedOrder() if device.type == "cpu" else nullcontext()


def _is_composite(func: Any) -> bool:
    kernels: bool = torch._C._dispatch_has_kernel_for_dispatch_key(
        func.name(), DispatchKey.CompositeImplicitAutograd
    )
    return kernels


def _applies(args: tuple[Any, ...]) -> bool:
    # The first argument of `2 ** x` is a number.
    x = next((arg for arg in args if isinstance(arg, Tensor)), None)
    return x is not None and x.device.type == "cpu" and x.dtype in TYPES and x.numel() > 0
