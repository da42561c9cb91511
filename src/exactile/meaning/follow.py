"""Following the values of a network's output back through the operators that made them.

The network runs once more under the tracer, without data. What each call took and made is kept, and
the rules are asked from the output backwards, as far as they need to know.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from exactile.locality.modulepath import evaluation
from exactile.locality.registry import Call
from exactile.locality.run import Failed, Outputs
from exactile.locality.tracer import trace
from exactile.meaning import (  # noqa: F401 - importing a family registers its rules
    arithmetic,
    contraction,
    moving,
)
from exactile.meaning.registry import RULES
from exactile.meaning.values import UNKNOWN, Values, in_type, of_constant, point


class _Needed(Exception):  # noqa: N818 - control flow
    """A rule asks for what is not known yet."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class Followed:
    """The calls of one run, and what is known of the values that they made."""

    def __init__(self) -> None:
        self.makers: dict[int, Call] = {}
        """By the identity of a tensor, which its call keeps alive."""
        self.known: dict[int, Values] = {}
        self.kept: list[Any] = []
        self.output: torch.Tensor | None = None

    def called(self, call: Call) -> None:
        """Keep a call of the run."""
        self.makers.update((id(tensor), call) for tensor in call.outputs)

    def returned(self, output: torch.Tensor) -> None:
        """Keep the network's output."""
        self.output = output

    def maker(self, tensor: torch.Tensor) -> Call | None:
        """Return the call that made a tensor."""
        return self.makers.get(id(tensor))

    def of(self, value: object) -> Values:
        """Return what is known of a tensor or a number; ask for it first where it is not."""
        if isinstance(value, (bool, int, float)):
            return point(float(value))
        if not isinstance(value, torch.Tensor):
            return UNKNOWN
        if id(value) not in self.known:
            raise _Needed(value)
        return self.known[id(value)]

    def values(self) -> Values:
        """Return what is known of the output."""
        if self.output is None:
            return UNKNOWN
        wanted = [self.output]
        while wanted:
            tensor = wanted[-1]
            if id(tensor) in self.known:
                wanted.pop()
                continue
            try:
                self._find(tensor)
            except _Needed as needed:
                wanted.append(needed.tensor)
        return self.known[id(self.output)]

    def _find(self, tensor: torch.Tensor) -> None:
        if not isinstance(tensor, FakeTensor):
            self.kept.append(tensor)
            self.known[id(tensor)] = of_constant(tensor)
            return
        call = self.maker(tensor)
        if call is None:
            # The image, which nothing made.
            self.known[id(tensor)] = UNKNOWN
            return
        rule = RULES.get(call.operator)
        found = UNKNOWN if rule is None else rule(call, self)
        each = found if isinstance(found, tuple) else (found,) * len(call.outputs)
        for output, values in zip(call.outputs, each, strict=True):
            self.known[id(output)] = in_type(values, None, output.dtype)


def follow(network: nn.Module, channels: int, extent: tuple[int, ...]) -> Values:
    """Return what the operators prove of the output of `network`, (1, channels, *extent) given.

    Nothing is computed but the ranges of weights. What cannot be followed is unknown.
    """
    followed = Followed()
    with evaluation(network):
        try:
            trace(network, channels, extent, 0, observer=followed)
        except (Failed, Outputs):
            return UNKNOWN
    return followed.values()
