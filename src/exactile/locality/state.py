"""States that a network keeps: whatever a pass leaves behind for the next one.

What TorchScript and exported programs change is read from their code (`scriptstate`, and below);
whether it runs in a trial or not does not matter. Eager modules have no code that could be read:
all that a module can reach (attributes, closures, globals, the generators of random numbers) is
compared before and after each run.
"""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pickle import PicklingError
from types import FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves

from exactile.locality.refusal import KeepsState
from exactile.locality.scriptlooks import refuse_looks
from exactile.locality.scriptstate import refuse_script_state

DEPTH = 64
"""How deep objects are looked into."""

LIBRARIES = sys.stdlib_module_names | {"torch", "numpy", "sympy"}
"""Packages whose functions keep no state of a network."""

OPAQUE = ("torch", "sympy")
"""Packages whose objects hold no state of a network, beside tensors and generators."""

VIEWING = ("view", "reshape", "slice", "select", "transpose", "permute", "unsqueeze", "squeeze")
"""What hands a tensor on under another shape, so that writing into the one changes the other."""


def refuse_state(network: nn.Module) -> None:
    """Raise `KeepsState` if the code of a network, where it has one, changes what outlives a call.

    Code that asks for more of a tensor than its size and type is a `ModelError`, too. What is
    scripted or exported inside an eager module is looked at, too.
    """
    scripted: list[nn.Module] = []
    for part in network.modules():
        if isinstance(part, torch.jit.ScriptModule):
            if not any(part is inner for outer in scripted for inner in outer.modules()):
                scripted.append(part)
                refuse_script_state(part)
                refuse_looks(part)
        elif isinstance(part, fx.GraphModule):
            refuse_graph_state(part)


def refuse_graph_state(network: fx.GraphModule) -> None:
    """Raise `KeepsState` if a graph writes into an attribute of its module."""
    for node in network.graph.nodes:
        if not isinstance(node.target, OpOverload):
            continue
        for argument, value in zip(node.target._schema.arguments, node.args, strict=False):
            changed = argument.alias_info is not None and argument.alias_info.is_write
            if changed and isinstance(value, fx.Node) and (name := _attribute(value)) is not None:
                raise KeepsState(
                    f"keeps a state: its program writes into the buffer {name!r} ({node.target}), "
                    "so that no two passes agree; export the network without it"
                )


def _attribute(node: fx.Node) -> str | None:
    """Return the attribute that a node is a view of, or None."""
    while node.op == "call_function" and node.all_input_nodes:
        if not any(name in str(node.target) for name in VIEWING):
            return None
        node = node.all_input_nodes[0]
    return str(node.target) if node.op == "get_attr" else None


def written(func: OpOverload, arguments: Mapping[str, Any], names: Mapping[int, str]) -> str | None:
    """Return the name of the weight or buffer that a call writes into, or None.

    `names` are those of the network's tensors, by their ids.
    """
    for argument in func._schema.arguments:
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        for tensor in tree_leaves(arguments[argument.name]):
            held = getattr(tensor, "_base", None)
            name = names.get(id(tensor if held is None else held))
            if name is not None:
                return name
    return None


@contextmanager
def unchanged(network: nn.Module) -> Iterator[None]:
    """Raise `KeepsState` if eager code of `network` changed anything inside the block."""
    if isinstance(network, torch.jit.ScriptModule):
        yield
        return
    before = state_of(network)
    yield
    after = state_of(network)
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    if changed:
        raise KeepsState(
            f"keeps a state: a pass changes {changed[0]}, so that no two passes agree; give the "
            "network code that changes nothing"
        )


def state_of(network: nn.Module) -> dict[str, object]:
    """Return what a pass of an eager module could change, in a form that can be compared."""
    seen: dict[int, object] = {}
    found: dict[str, object] = {
        "the state of `random`": hash(random.getstate()),
        "the state of `numpy.random`": hash(repr(np.random.get_state())),  # noqa: NPY002
    }
    for path, part in network.named_modules():
        if isinstance(part, (torch.jit.ScriptModule, fx.GraphModule)):
            continue
        where = path or type(part).__name__
        found[f"the parts of {where}"] = [id(child) for child in part.children()]
        for name, value in vars(part).items():
            if name in ("_parameters", "_buffers"):
                for tensor, held in value.items():
                    found[f"{where}.{tensor}"] = described(held, DEPTH, seen)
            elif name != "_modules":
                found[f"{where}.{name}"] = described(value, DEPTH, seen)
        for kind in type(part).__mro__:
            if kind.__module__.partition(".")[0] not in LIBRARIES:
                for name, value in vars(kind).items():
                    found[f"what {where}.{name} refers to"] = described(value, DEPTH, seen)
    return found


def described(value: object, depth: int, seen: dict[int, object]) -> object:
    """Return something that is equal for equal states of `value`, and another value otherwise."""
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None))):
        return repr(value)
    if isinstance(value, torch.Tensor):
        return id(value), None if value.is_inference() else value._version
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype), hash(value.tobytes())
    if isinstance(value, (bytearray, memoryview)):
        return hash(bytes(value))
    if isinstance(value, torch.Generator):
        return hash(value.get_state().numpy().tobytes())
    if isinstance(value, random.Random):
        return hash(value.getstate())
    if isinstance(value, (ModuleType, type, nn.Module)) or depth == 0 or id(value) in seen:
        return id(value)
    # It is kept, so that its id cannot be given to another.
    seen[id(value)] = value
    if isinstance(value, Mapping):
        return [
            (described(key, depth - 1, seen), described(held, depth - 1, seen))
            for key, held in value.items()
        ]
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return [len(value), *(described(held, depth - 1, seen) for held in value)]
    if isinstance(value, (staticmethod, classmethod)):
        return described(value.__func__, depth, seen)
    if isinstance(value, MethodType):
        return [described(held, depth, seen) for held in (value.__func__, value.__self__)]
    package = (getattr(value, "__module__", None) or type(value).__module__).partition(".")[0]
    if isinstance(value, FunctionType):
        return id(value) if package in LIBRARIES else _of_function(value, depth, seen)
    if isinstance(value, GeneratorType):
        frame = value.gi_frame
        return frame and (frame.f_lasti, described(frame.f_locals, depth - 1, seen))
    if package in OPAQUE:
        return id(value)
    if isinstance(value, ContextVar):
        return described(value.get(None), depth - 1, seen)
    held, kept = getattr(value, "__dict__", {}), _pickled(value)
    # Pickles are made of parts that may be made for them: these are known by what they hold.
    identity = id(value) if kept is None else type(value).__qualname__
    return identity, *(described(part, depth - 1, seen) for part in (held, kept))


def _pickled(value: object) -> object:
    """Return what a pickle would keep of an object: slots, the place of an iterator, a buffer."""
    try:
        return value.__reduce_ex__(4)
    except (TypeError, ValueError, PicklingError):
        # It cannot be pickled: a lock, a file.
        return None


def _of_function(function: FunctionType, depth: int, seen: dict[int, object]) -> object:
    """Return what a function can change: its cells, defaults and attributes, and globals."""
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    names = function.__code__.co_names
    reached = {name: function.__globals__[name] for name in names if name in function.__globals__}
    inside = [
        {name: vars(module)[name] for name in names if name in vars(module)}
        for module in reached.values()
        if isinstance(module, ModuleType)
    ]
    parts = (cells, function.__defaults__, function.__kwdefaults__, vars(function), reached, inside)
    return [described(part, depth - 1, seen) for part in parts]


def _is_filled(cell: object) -> bool:
    try:
        cell.cell_contents  # type: ignore[attr-defined]  # noqa: B018 - it raises where it is empty
    except ValueError:
        return False
    return True
