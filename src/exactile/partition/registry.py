"""The table of rules: one for each function of torch that may be called on split tensors.

A rule has the parameters of its function, with their names and defaults, and the function itself
before them. It returns what the function returns, split tensors among it, or raises `Refused` with
the reason. It promises: put together, the parts are what the function gives of the whole tensors,
up to the order of sums; all ranks do the same exchanges in the same order; and gradients follow
the convention of `exchange`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch._ops import OpOverload

Rule = Callable[..., Any]
Made = TypeVar("Made", bound=Rule)

RULES: dict[Any, Rule] = {}
"""The rule of every function that has one, by the function."""

PLACES = (torch, torch.Tensor, F, torch._C._nn)
"""Where the functions of one name do the same: `relu` is a function, a method, and another."""


def rule(*names: str, places: tuple[Any, ...] = PLACES) -> Callable[[Made], Made]:
    """Register the decorated rule for the functions of these names, wherever they are found.

    `places` are given where functions of one name have other parameters elsewhere.
    """

    def register(made: Made) -> Made:
        for name in names:
            found = [function for place in places if (function := getattr(place, name, None))]
            if not found:
                raise LookupError(f"torch has no function {name}")
            for function in found:
                RULES[function] = made
        return made

    return register


def rule_of(func: Any) -> tuple[Any, Rule | None]:
    """Return `func`, or the Python function of which it is an overload, and the rule it has."""
    if func in RULES or not isinstance(func, OpOverload):
        return func, RULES.get(func)
    name = func._schema.name.partition("::")[2]
    found = [each for place in PLACES if (each := getattr(place, name, None)) in RULES]
    return (found[0], RULES[found[0]]) if found else (func, None)
