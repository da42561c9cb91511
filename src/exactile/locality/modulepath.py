"""The modules of a network: their mode, and which of them is running, to name it in a refusal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from threading import get_ident

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)


def named_modules(module: nn.Module) -> dict[int, str]:
    """Return the path of every module by its id."""
    return {id(part): name for name, part in module.named_modules()}


@dataclass
class ModulePath:
    """Follows which module is running."""

    names: Mapping[int, str]
    stack: list[str] = field(default_factory=list)
    thread: int = 0
    """The thread whose modules are followed: hooks are called by those of all threads."""

    @property
    def current(self) -> str:
        """Path and class of the innermost running module."""
        return self.stack[-1] if self.stack else "model"

    def enter(self, module: nn.Module, _: object) -> None:
        """Note that `module` starts."""
        if get_ident() != self.thread:
            return
        name = self.names.get(id(module), self.current.split(" ")[0]) or "model"
        kind = getattr(module, "original_name", type(module).__name__)
        self.stack.append(f"{name} ({kind})")

    def leave(self, *_: object) -> None:
        """Note that the innermost module ends."""
        if get_ident() == self.thread:
            self.stack.pop()

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow all modules that this thread runs inside the block."""
        self.thread = get_ident()
        hooks = (
            register_module_forward_pre_hook(self.enter),
            register_module_forward_hook(self.leave),
        )
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


@contextmanager
def evaluation(module: nn.Module) -> Iterator[None]:
    """Put every part of the module in evaluation mode, and back afterwards.

    Frozen TorchScript and exported programs have no mode to set: theirs was fixed when they were
    made.
    """
    flags = [(part, part.training) for part in module.modules() if hasattr(part, "training")]
    with suppress(NotImplementedError):
        module.eval()
    try:
        yield
    finally:
        for part, training in flags:
            part.training = training


def kind_of(module: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Return the type and the device of the network's weights; float32 on the CPU without any."""
    for weight in chain(module.parameters(), module.buffers()):
        if weight.is_floating_point():
            return weight.dtype, weight.device
    return torch.float32, torch.device("cpu")
