"""Tensors that do not depend on the image: weights, and what a network makes of sizes.

Two runs at different extents must not take different constants for one. A weight is known by its
name. Any other constant (an attribute, `torch.tensor(x.shape[2])`, what a frozen graph holds) is
known by its content. What is computed from constants is known by how it is computed, and by the
sizes of what it is computed from: the sum of `ones_like(x)` is the size of the image.

Constants keep their values, so that a network may decide by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

from exactile.locality.maker import MOVING
from exactile.locality.pointwise import FILLED, UNTAGGED
from exactile.locality.reach import Reach, number, salted
from exactile.locality.registry import Call
from exactile.locality.sizes import numbers

SIZELESS = frozenset(f"aten.{name}" for name in (*FILLED, *UNTAGGED))
"""Operators without the tag of element-wise ones whose values do not depend on any size."""


def named_weights(module: nn.Module) -> dict[int, str]:
    """Return the name of every parameter and buffer by its id."""
    return {id(t): name for name, t in chain(module.named_parameters(), module.named_buffers())}


def constant_mark(tensor: torch.Tensor, names: dict[int, str]) -> np.uint64:
    """Return the mark of a constant: of its name, or of its content where it has none."""
    name = names.get(id(tensor))
    if name is not None:
        return number("weight", name)
    with unset_fake_temporarily():
        values = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        content = blake2b(values.tobytes(), digest_size=16).hexdigest()
    return number("constant", tuple(tensor.shape), str(tensor.dtype), content)


def has_values(func: OpOverload, tensors: Sequence[torch.Tensor]) -> bool:
    """Whether a call takes only tensors that hold values, and writes into none of them."""
    return (
        bool(tensors)
        and not func._schema.is_mutable
        and not any(isinstance(tensor, FakeTensor) for tensor in tensors)
    )


def compute(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the result of a call on constants, with values."""
    with unset_fake_temporarily():
        return func(*args, **kwargs)


def call_salt(
    place: int, operator: str, arguments: Mapping[str, Any], reaches: Sequence[Reach]
) -> np.uint64:
    """Return a number for the call at `place` of a run: of its operator, numbers and weights.

    A number may be computed from the image's size, and a weight be chosen by it. What only moves
    values shows where it took them from: the marks of weights need not be told apart again.
    """
    plain = numbers(operator, arguments)
    if operator in MOVING:
        return number(place, operator, plain)
    known = [r.mark.item() for r in reaches if r.constant and not r.positional]
    return number(place, operator, plain, known)


def sized(func: OpOverload, call: Call, made: tuple[Reach, ...]) -> tuple[Reach, ...]:
    """Return the reaches of what is computed from constants, told apart by the sizes of those.

    Where an operator works element by element, or moves values that are all equal, no size shows.
    """
    if not call.reaches or not all(reach.constant for reach in call.reaches):
        return made
    equal = all(all(reach.even) for reach in call.reaches)
    if (
        torch.Tag.pointwise in func.tags
        or call.operator in SIZELESS
        or (equal and call.operator in MOVING)
    ):
        return made
    sizes = [tuple(tensor.shape) for tensor in (*call.tensors, *call.outputs)]
    return tuple(salted(reach, number("sizes", sizes)) for reach in made)
