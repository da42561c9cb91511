"""Whatever a pass leaves behind for the next one is a state, and a network with one is not run."""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exactile.errors import ModelError
from exactile.locality import KeepsState, analyze
from exactile.locality.state import refuse_state
from exactile.models.loading import load_model

CALLS = [0]
COUNTER = itertools.count()


class Holder(nn.Module):
    """A convolution, and places for a state."""

    total = 0

    def counted(self, calls: list[int] = [0]) -> None:  # noqa: B006 - that is the state
        calls[0] += 1

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.number = 0
        self.some = [0]
        self.d = {"n": [0]}
        self.kept = None
        self.register_buffer("buffer", torch.zeros(1))
        self.plain = torch.zeros(2)


def by_global(self: Any, x: Tensor) -> None:
    CALLS[0] += 1


def by_function(self: Any, x: Tensor) -> None:
    by_function.calls = getattr(by_function, "calls", 0) + 1  # type: ignore[attr-defined]


EAGER: dict[str, Callable[[Any, Tensor], object]] = {
    "a number": lambda self, x: setattr(self, "number", self.number + 1),
    "a list": lambda self, x: self.some.append(1),
    "a list in a dictionary": lambda self, x: self.d["n"].append(1),
    "a tensor that is kept": lambda self, x: setattr(self, "kept", x),
    "a buffer": lambda self, x: self.buffer.add_(1),
    "a tensor": lambda self, x: self.plain[:1].add_(1),
    "a new buffer": lambda self, x: setattr(self, "buffer", self.buffer + 1),
    "a global": by_global,
    "an attribute of the class": lambda self, x: setattr(Holder, "total", Holder.total + 1),
    "a default": lambda self, x: self.counted(),
    "an iterator": lambda self, x: next(COUNTER),
    "an attribute of a function": by_function,
    "the generator of random numbers": lambda self, x: random.random(),
    "the generator of numpy": lambda self, x: np.random.rand(),  # noqa: NPY002
}


@pytest.mark.parametrize("name", EAGER)
def test_what_an_eager_module_leaves_behind_is_a_state(name: str) -> None:
    class Network(Holder):
        def forward(self, x: Tensor) -> Tensor:
            EAGER[name](self, x)
            return self.conv(x)

    with pytest.raises(KeepsState, match="keeps a state"):
        analyze(Network(), 1)


class InAList(Holder):
    def forward(self, x: Tensor) -> Tensor:
        self.some.append(1)
        return self.conv(x)


class InADictionary(Holder):
    def forward(self, x: Tensor) -> Tensor:
        entry = self.d["n"]
        if x.size(2) > 5000:
            entry[0] += 1
        return self.conv(x)


class ByAnotherName(Holder):
    def forward(self, x: Tensor) -> Tensor:
        held = self.some
        if x.size(2) > 5000:
            held = [1]
        for index in range(2):
            held.append(index)
        return self.conv(x)


class InANumber(Holder):
    def forward(self, x: Tensor) -> Tensor:
        if x.size(2) > 5000:
            self.number += 1
        return self.conv(x)


class InABuffer(Holder):
    def forward(self, x: Tensor) -> Tensor:
        if x.size(2) > 5000:
            self.buffer.add_(1)
        return self.conv(x) + self.buffer


class InAView(Holder):
    def forward(self, x: Tensor) -> Tensor:
        if x.size(2) > 5000:
            self.plain[0] = 1.0
        return self.conv(x)


class InAMethod(Holder):
    def count(self) -> int:
        self.some[0] += 1
        return self.some[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * (1.0 if self.count() < 100 else 2.0)


SCRIPTED = (InAList, InADictionary, ByAnotherName, InANumber, InABuffer, InAView, InAMethod)


def script(network: nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made: torch.jit.ScriptModule = torch.jit.script(network.eval())
    return made


@pytest.mark.parametrize("kind", SCRIPTED)
def test_what_code_of_torchscript_can_leave_behind_is_a_state(
    kind: type[nn.Module], tmp_path: Path
) -> None:
    """Also where no trial comes by the place that changes it."""
    scripted = script(kind())
    with pytest.raises(KeepsState, match="keeps a state"):
        analyze(scripted, 1)
    scripted.save(str(tmp_path / "model.pt"))
    with pytest.raises(Exception, match="keeps a state"):
        load_model(tmp_path / "model.pt", exchange=True)


class WithoutData(Holder):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.is_meta else self.conv(x) * 2


class ByItsStride(Holder):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.stride(2) < 300 else self.conv(x) * 2


class ByItsPlace(Holder):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.is_contiguous() else self.conv(x) * 2


@pytest.mark.parametrize("kind", [WithoutData, ByItsStride, ByItsPlace])
def test_code_that_could_tell_a_trial_from_a_run_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(ModelError, match="asks for more than the size and the type"):
        analyze(script(kind()), 1)


class WritesOnlyItsOwn(nn.Module):
    """Lists, dictionaries and maps of this very call are changed, and a batch norm trains not."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(True))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps: list[Tensor] = []
        named: dict[str, Tensor] = {}
        for _ in range(2):
            maps.append(F.interpolate(self.body(x), scale_factor=2.0).mul_(2.0))
        named["low"] = F.dropout(torch.cat(maps, 1), 0.5, self.training)
        named["low"][:, :1] += 1
        return self.head(F.max_pool2d(named["low"], 2))


@pytest.mark.parametrize("form", [lambda network: network, script])
def test_what_a_call_makes_itself_it_may_change(form: Callable[[nn.Module], nn.Module]) -> None:
    analyze(form(WritesOnlyItsOwn()), 1)


def test_maps_that_are_computed_of_weights_and_lists_may_be_changed_in_place() -> None:
    class Joins(Holder):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.cat([self.conv(x).relu_(), self.plain[:1].view(1, 1, 1, 1).expand_as(x)], 1)
            return y.relu_().split([1, 1], 1)[0].clone().relu_()

    refuse_state(script(Joins()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        refuse_state(torch.jit.trace(Joins().eval(), torch.zeros(1, 1, 8, 8)))  # type: ignore[no-untyped-call]


def test_a_buffer_that_an_exported_program_writes_is_a_state() -> None:
    class Counting(Holder):
        def forward(self, x: Tensor) -> Tensor:
            self.buffer.add_(1)
            return self.conv(x) + self.buffer

    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(
        Counting().eval(), (torch.zeros(1, 1, 48, 50),), dynamic_shapes=(sides,)
    )
    for network in (program.module(), program.run_decompositions().module()):
        with pytest.raises(KeepsState, match="buffer"):
            analyze(network, 1)
