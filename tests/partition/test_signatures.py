"""Every rule, called by every signature of its functions, against PyTorch on the whole."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from partition_ranks import parts_of
from signature_calls import CALLS, REFUSED, SHAPE
from torch import Tensor
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode

from exactile.partition import NotPartitioned, SplitTensor, distribute
from exactile.partition.nested import tensors_in
from exactile.partition.registry import RULES, name_of, takes_all
from exactile.partition.signature import overload_of, overloads_of
from exactile.partition.virtual import VirtualMesh, run_in_turns


def inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    return {
        "x": noise(*SHAPE),
        "y": noise(*SHAPE),
        "z": noise(1, 2, 6, 12, 16),
        "l": noise(2, 4, 16),
        "w": noise(1, 4, 1, 1),
        "k": noise(3, 4, 3, 3),
        "t": noise(4, 2, 2, 2),
        "b": noise(3),
        "r": noise(4).abs(),
    }


SPLIT = "xyzl"


def called(call: str, named: dict[str, Tensor]) -> Any:
    return eval(call, {"torch": torch, "F": F, **named})


def cuts_of(call: str, seed: int) -> dict[int, tuple[int, ...]]:
    """Cuts of the dimensions of extent 12 and 16: any, a width of 1 and none among them."""
    drawn = random.Random(f"{call}{seed}")
    parts = (3,) if "l" in names_in(call) else (2, 3)
    made = {}
    for side, count in zip((12, 16)[-len(parts) :], parts, strict=True):
        made[side] = (0, *sorted(drawn.randint(0, side) for _ in range(count - 1)), side)
    return made


def names_in(call: str) -> set[str]:
    return set(compile(call, "call", "eval").co_names)


def in_parts(call: str, seed: int) -> Any:
    """Return what a call gives in parts, put together; also where it gives several tensors."""
    cuts = cuts_of(call, seed)
    mesh_shape = tuple(len(c) - 1 for c in cuts.values())
    axes = tuple(range(-len(cuts), 0))

    def act(mesh: VirtualMesh) -> Any:
        def part(tensor: Tensor) -> Tensor:
            cut = (..., *parts_of(list(cuts.values()), mesh.coordinate))
            return distribute(tensor[cut].clone(), mesh, axes)

        named = {
            name: part(tensor) if name in SPLIT and name in names_in(call) else tensor
            for name, tensor in inputs().items()
        }
        return called(call, named)

    ranks = run_in_turns(mesh_shape, act)
    leaves = [tensors_in(made) for made in ranks]
    return [put_together(list(parts)) for parts in zip(*leaves, strict=True)]


def put_together(parts: list[Tensor]) -> Tensor:
    if not isinstance(parts[0], SplitTensor):
        assert all(torch.equal(part, parts[0]) for part in parts), "whole, but not the same"
        return parts[0]
    made = torch.empty(parts[0].shape, dtype=parts[0].dtype)
    seen = torch.zeros(parts[0].shape, dtype=torch.int64)
    for part in parts:
        assert isinstance(part, SplitTensor)
        made[part.box.slices] = part.local
        seen[part.box.slices] += 1
    # Ranks along an axis that it is not split along hold the same.
    assert bool((seen == seen.flatten()[0]).all())
    assert bool((seen > 0).all())
    return made


EVERY_CALL = [(name, call) for name, calls in CALLS.items() for call in calls]


def same(given: Iterable[Tensor], wanted: Iterable[Tensor]) -> None:
    for one, other in zip(given, wanted, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        tolerance = 1e-5 if other.dtype == torch.float32 else 1e-10
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "call"), EVERY_CALL)
def test_a_rule_gives_what_torch_gives_however_its_function_is_called(name: str, call: str) -> None:
    wanted = tensors_in(called(call, inputs()))
    same(in_parts(call, 0), wanted)


@pytest.mark.parametrize("call", REFUSED)
def test_what_needs_all_of_a_split_axis_is_refused(call: str) -> None:
    with pytest.raises(NotPartitioned, match=r"split|another type"):
        in_parts(call, 0)


class Watching(TorchFunctionMode):
    """Notes what is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def bound_rules() -> dict[str, list[Any]]:
    """The functions by name that have rules of named arguments."""
    made: dict[str, list[Any]] = {}
    for func, rule in RULES.items():
        if not takes_all(rule):
            made.setdefault(name_of(func), []).append(func)
    return made


def test_every_rule_of_named_arguments_is_called_by_every_overload_of_its_functions() -> None:
    called_for: dict[str, set[Any]] = {}
    for call in [*(call for _, call in EVERY_CALL), *REFUSED]:
        with Watching() as watching:
            called(call, inputs())
        for func, args, kwargs in watching.calls:
            if func in RULES or isinstance(func, OpOverload):
                found = called_for.setdefault(name_of(func), set())
                found.add(overload_of(func, args, kwargs))
    missing = {}
    for name, functions in bound_rules().items():
        wanted: set[Any] = {
            overload
            for func in functions
            for overload in ([func] if isinstance(func, OpOverload) else overloads_of(func))
        } or {None}
        left = {str(o) for o in wanted - called_for.get(name, set())}
        if left:
            missing[name] = left
    assert missing == {}
