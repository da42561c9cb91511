"""The contract of the rules on values, and their table.

A rule says what holds of the values of an operator's outputs, from what holds of its arguments. It
promises: no value, whatever the image, is beyond the bounds that it gives, to within rounding; and
it says no more of their meaning than the operator proves. What has no rule is unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from exactile.locality.registry import Call
from exactile.meaning.values import Values


class Known(Protocol):
    """What is known of the tensors that led to a call."""

    def of(self, value: object) -> Values:
        """Return what is known of a tensor, or of a number."""

    def maker(self, tensor: torch.Tensor) -> Call | None:
        """Return the call that made a tensor; None for the image, and for weights."""


Rule = Callable[[Call, Known], "Values | tuple[Values, ...]"]

RULES: dict[str, Rule] = {}
"""The rule of every operator that has one, by the operator's name without overload."""


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register the decorated rule for `operators`, named as in `torch.ops.aten`."""

    def register(function: Rule) -> Rule:
        for operator in operators:
            RULES[f"aten.{operator}"] = function
        return function

    return register
