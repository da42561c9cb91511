"""The contract between the tracer and the operator rules, and the table of rules.

A rule is a function of one `Call`. It returns the reach of the operator's output (or one for each
output tensor, in order), or raises `Refused` with the reason. It promises: each position of the
output has in its hull the hulls of all positions that the operator may read for it, whatever the
values are; and two positions get equal marks only where they compute the same function of the
input, relative to `low`. A rule computes nothing of the tensors, only of their shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from exactile.locality.reach import Reach
from exactile.locality.refusal import Refused

Rule = Callable[["Call"], "Reach | tuple[Reach, ...]"]


class Reaches(Sequence[Reach]):
    """The reaches of a call's tensors, which know which of them were looked at.

    A rule that never looks at a tensor that depends on the image would lose that dependence.
    """

    def __init__(self, reaches: Sequence[Reach]) -> None:
        self._all = tuple(reaches)
        self._read: set[int] = set()

    def __len__(self) -> int:
        return len(self._all)

    @overload
    def __getitem__(self, index: int) -> Reach: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Reach, ...]: ...
    def __getitem__(self, index: int | slice) -> Reach | tuple[Reach, ...]:
        chosen = range(len(self._all))[index]
        self._read.update((chosen,) if isinstance(chosen, int) else chosen)
        return self._all[index]

    def unread(self) -> list[int]:
        """Return the places of those that depend on the image and were not looked at."""
        return [
            place
            for place, reach in enumerate(self._all)
            if place not in self._read and (not reach.constant or reach.positional)
        ]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operator, as a rule sees it."""

    operator: str
    """Name of the operator, such as `aten.convolution`."""
    arguments: Mapping[str, Any]
    """All arguments by the names of the operator's schema, defaults included."""
    tensors: tuple[torch.Tensor, ...]
    """The tensors among the arguments, in order."""
    outputs: tuple[torch.Tensor, ...]
    """The tensors that it returned: their shapes are real, their values are not."""
    salt: np.uint64
    """A number for this call, the same in every run of the same network."""
    reaches: Reaches
    """The reach of each of `tensors`."""
    earlier: tuple[tuple[int, ...], ...] | None
    """Shapes of `tensors` in the run at a smaller extent, where there was one."""
    earlier_outputs: tuple[tuple[int, ...], ...] | None
    """Shapes of `outputs` in that run."""

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def output(self) -> torch.Tensor:
        """The first output."""
        return self.outputs[0]

    def index(self, tensor: torch.Tensor) -> int:
        """Return the place of `tensor` among the arguments."""
        return next(i for i, other in enumerate(self.tensors) if other is tensor)

    def name_of(self, place: int) -> str:
        """Return the name of the argument that is, or holds, the tensor at `place`."""
        names = [
            name
            for name, value in self.arguments.items()
            for leaf in tree_leaves(value)
            if isinstance(leaf, torch.Tensor)
        ]
        return names[place]

    def reach(self, name: str) -> Reach:
        """Return the reach of the tensor argument `name`.

        Raises `Refused` where it is the indices of a pooling: numbers that name absolute places.
        """
        reach = self.reaches[self.index(self[name])]
        if reach.pooled is not None:
            raise Refused(
                "it reads the indices of a max-pooling as numbers, and those count from the "
                "image's origin; use them for max-unpooling only"
            )
        return reach

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of the tensor argument `name`."""
        return tuple(self[name].shape)

    def grows(self, name: str, dim: int) -> bool:
        """Whether the side of argument `name` along `dim` grows with the image."""
        if self.earlier is None:
            return False
        tensor = self[name]
        return bool(self.earlier[self.index(tensor)][dim] != tensor.shape[dim])

    def output_grows(self, dim: int) -> bool:
        """Whether the side of the first output along `dim` grows with the image."""
        return self.earlier_outputs is not None and (
            self.earlier_outputs[0][dim] != self.output.shape[dim]
        )


RULES: dict[str, Rule] = {}
"""The rule of every operator that has one, by the operator's name without overload."""


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register the decorated rule for `operators`, named as in `torch.ops.aten`."""

    def register(function: Rule) -> Rule:
        for operator in operators:
            RULES[f"aten.{operator}"] = function
        return function

    return register


def per_axis(values: Sequence[int] | int | None, count: int, default: int = 0) -> tuple[int, ...]:
    """Return one value for each of `count` axes, as operators repeat a single one."""
    if values is None:
        return (default,) * count
    if isinstance(values, int):
        return (values,) * count
    given = tuple(values)
    if not given:
        return (default,) * count
    return given * count if len(given) == 1 else given
