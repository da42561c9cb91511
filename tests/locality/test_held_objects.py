"""Objects of any kind that an eager module holds are a state where a pass changes them."""

from __future__ import annotations

import io
import os
import threading
from array import array
from collections import UserList
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from queue import Queue
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exactile.locality import KeepsState, analyze


class Slots:
    """An object without a dictionary of attributes."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Link:
    """One of a chain of objects."""

    def __init__(self, length: int) -> None:
        self.next = Link(length - 1) if length else None
        self.count = 0

    def last(self) -> Link:
        return self if self.next is None else self.next.last()


def bump(held: Any) -> None:
    held.count += 1


OBJECTS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "slots": (Slots, bump),
    "a name space": (lambda: SimpleNamespace(count=0), bump),
    "a local of the thread": (lambda: local_of_thread(), bump),
    "the last of a chain": (lambda: Link(12), lambda held: bump(held.last())),
    "a generator": (lambda: (number for number in range(9999)), next),
    "an iterator of a list": (lambda: iter(list(range(9999))), next),
    "bytes": (lambda: bytearray(1), lambda held: held.append(1)),
    "a view of bytes": (
        lambda: memoryview(bytearray(1)),
        lambda held: held.__setitem__(0, held[0] + 1),
    ),
    "an array": (lambda: array("i", [0]), lambda held: held.append(1)),
    "a list of its own kind": (UserList, lambda held: held.append(1)),
    "a text that is written": (io.StringIO, lambda held: held.write("a")),
    "a queue": (Queue, lambda held: held.put(1)),
    "a function with its arguments": (lambda: partial([].append, 1), lambda held: held()),
    "a generator of numpy's numbers": (
        lambda: np.random.default_rng(0),
        lambda held: held.random(),
    ),
    "a generator of torch's numbers": (
        torch.Generator,
        lambda held: held.manual_seed(held.initial_seed() + 1),
    ),
    "a variable of the context": (
        lambda: ContextVar("count", default=0),
        lambda held: held.set(held.get() + 1),
    ),
    "the environment": (
        lambda: None,
        lambda held: os.environ.update(CALLS=os.environ.get("CALLS", "") + "a"),
    ),
    "an attribute of a module": (
        lambda: None,
        lambda held: counted_in_a_module(),
    ),
}
"""What a module may hold, and what changes it."""


def counted_in_a_module() -> None:
    os.calls += 1  # type: ignore[attr-defined]


def local_of_thread() -> threading.local:
    held = threading.local()
    held.count = 0
    return held


class Holder(nn.Module):
    """A convolution, an object, and what is done to that in each pass."""

    def __init__(self, held: object, change: Callable[[Any], object]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.held, self.change = held, change

    def forward(self, x: Tensor) -> Tensor:
        self.change(self.held)
        return self.conv(x)


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_of_all_kinds_are_places_for_a_state(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLS", "")
    monkeypatch.setattr(os, "calls", 0, raising=False)
    make, change = OBJECTS[name]
    with pytest.raises(KeepsState, match="keeps a state"):
        analyze(Holder(make(), change), 1)


@pytest.mark.parametrize("name", OBJECTS)
def test_what_is_held_and_not_changed_is_no_state(name: str) -> None:
    analyze(Holder(OBJECTS[name][0](), lambda _: None), 1)
