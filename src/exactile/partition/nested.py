"""Tensors among nested arguments and results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def mapped(arguments: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return nested arguments with every tensor changed; named tuples of torch stay such."""
    if isinstance(arguments, Tensor):
        return change(arguments)
    if isinstance(arguments, dict):
        return {name: mapped(value, change) for name, value in arguments.items()}
    if isinstance(arguments, (tuple, list)):
        made = [mapped(value, change) for value in arguments]
        if hasattr(arguments, "n_sequence_fields"):
            return type(arguments)(made)
        return tuple(made) if isinstance(arguments, (tuple, torch.Size)) else made
    return arguments


def tensors_in(arguments: Any) -> list[Tensor]:
    """Return all tensors in nested arguments, in order."""
    found: list[Tensor] = []
    mapped(arguments, found.append)
    return found
