"""The table of rules: one for each function of torch that may be called on split tensors.

A rule gets the function, and its arguments by the rule's own names for them, whichever signature
the function was called by (`signature.bind`); one with `*args` gets them as they were given. It
returns what the function returns, split tensors among it, or raises `Refused` with the reason. It
promises: put together, the parts are what the function gives of the whole tensors, up to the order
of sums; all ranks do the same exchanges in the same order; and gradients follow the convention of
`exchange`. Statistics over an extent are rules also where one part is the whole, so that they do
not depend on the number of parts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch._ops import OpOverload

from exactile.partition.signature import bind

Rule = Callable[..., Any]
Made = TypeVar("Made", bound=Rule)

RULES: dict[Any, Rule] = {}
"""The rule of every function that has one, by the function."""

STATISTICS: set[Rule] = set()
"""The rules of statistics over an extent."""

PLACES = (torch, torch.Tensor, F, torch._C._nn)
"""Where the functions of one name do the same: `relu` is a function, a method, and another."""


def rule(
    *names: str, places: tuple[Any, ...] = PLACES, statistic: bool = False
) -> Callable[[Made], Made]:
    """Register the decorated rule for the functions of these names, wherever they are found.

    `places` are given where functions of one name do something else elsewhere.
    """

    def register(made: Made) -> Made:
        if statistic:
            STATISTICS.add(made)
        for name in names:
            found = [function for place in places if (function := getattr(place, name, None))]
            if not found:
                raise LookupError(f"torch has no function {name}")
            for function in found:
                RULES[function] = made
        return made

    return register


def apply(rule: Rule, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Carry out a call of `func` by its rule."""
    if takes_all(rule):
        return rule(func, *args, **kwargs)
    return rule(_plain(func), **bind(func, args, kwargs, rule))


@cache
def takes_all(rule: Rule) -> bool:
    """Whether a rule gets arguments as they were given."""
    kinds = {each.kind for each in inspect.signature(rule).parameters.values()}
    return inspect.Parameter.VAR_POSITIONAL in kinds


def rule_of(func: Any) -> Rule | None:
    """Return the rule of `func`; an overload of ATen has that of the functions of its name."""
    return RULES.get(_plain(func))


def _plain(func: Any) -> Any:
    """Return `func`, or the function of Python that has the rule for an overload."""
    if func in RULES or not isinstance(func, OpOverload):
        return func
    found = (getattr(place, name_of(func), None) for place in PLACES)
    return next((each for each in found if each in RULES), func)


def name_of(func: Any) -> str:
    """Return the plain name of a function, or of the operator that an overload is of."""
    if isinstance(func, OpOverload):
        return func._schema.name.partition("::")[2]
    name: str = func.__name__
    return name
