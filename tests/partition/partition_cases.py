"""One case: a network run partitioned and in one process, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from partition_networks import made
from partition_ranks import Ranks, parts_of
from torch import Tensor, nn

from exactile.fixed_order import FixedOrder
from exactile.partition import Mesh, SplitTensor, distribute, even_cuts, partition


@dataclass(frozen=True)
class Case:
    """A network by name, or a module itself, and how to split its input."""

    network: str | nn.Module
    extent: tuple[int, ...]
    mesh: tuple[int, ...]
    cuts: tuple[tuple[int, ...], ...] | None = None
    batch: int = 1
    channels: int = 1
    dtype: torch.dtype = torch.float64
    training: bool = False
    gradients: bool = True
    fixed: bool = False
    seed: int = 0

    def run(self) -> AbstractContextManager[Any]:
        """With gradients or without, in a fixed order of sums or not."""
        stack = ExitStack()
        stack.enter_context(torch.set_grad_enabled(self.gradients))
        if self.fixed:
            stack.enter_context(FixedOrder())
        return stack

    def make(self) -> nn.Module:
        if isinstance(self.network, str):
            return made(self.network, self.seed, self.dtype, self.training)
        return self.network.to(self.dtype).train(self.training)

    def image(self) -> Tensor:
        torch.manual_seed(self.seed + 1)
        return torch.randn(self.batch, self.channels, *self.extent, dtype=self.dtype)

    def all_cuts(self) -> tuple[tuple[int, ...], ...]:
        if self.cuts is not None:
            return self.cuts
        sides = self.extent[-len(self.mesh) :]
        return tuple(even_cuts(e, n) for e, n in zip(sides, self.mesh, strict=True))


@dataclass
class Outcome:
    """What a rank, or the one process, computed."""

    output: Tensor
    box: tuple[Any, ...]
    image_gradient: Tensor | None
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]


def weight_of(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return the loss's weight of each output value."""
    torch.manual_seed(9)
    return torch.randn(*shape, dtype=dtype)


def outcome(network: nn.Module, output: Tensor, image: Tensor, box: Any) -> Outcome:
    gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    buffers = dict(network.named_buffers())
    return Outcome(output.detach(), box, image.grad, gradients, buffers)


def whole_pass(case: Case) -> Outcome:
    network, image = case.make(), case.image().requires_grad_(case.gradients)
    with case.run():
        output = network(image)
    if case.gradients:
        (output * weight_of(output.shape, case.dtype)).sum().backward()
    return outcome(network, output, image, None)


@cache
def mesh_of(group: dist.ProcessGroup, shape: tuple[int, ...]) -> Mesh:
    """Return a mesh that later cases use again: each new one starts groups, with threads."""
    return Mesh(shape, group)


def partitioned_pass(group: dist.ProcessGroup, case: Case) -> Outcome:
    network, mesh = case.make(), mesh_of(group, case.mesh)
    cut = (..., *parts_of(case.all_cuts(), mesh.coordinate))
    image = case.image()[cut].clone().requires_grad_(case.gradients)
    run = partition(network, mesh)
    with case.run():
        split = run.split(distribute(image, mesh))
    local, box = split, (...,)
    if isinstance(split, SplitTensor):
        local, box = split.local, split.box.slices[1:]
    if case.gradients:
        (local * weight_of(split.shape, case.dtype)[box]).sum().backward()
    return outcome(network, local, image, box)


def compared(ranks: Ranks, case: Case, expected: Outcome | None = None) -> dict[str, float]:
    """Return the greatest differences from the whole pass, relative to the greatest value."""
    expected = whole_pass(case) if expected is None else expected
    parts = ranks.run(partitioned_pass, torch.Size(case.mesh).numel(), case)
    worst = {"output": 0.0, "input": 0.0, "parameters": 0.0, "buffers": 0.0}

    # The gradient of a bias before a normalisation is zero but for rounding: no scale of its own.
    steepest = max((float(g.abs().max()) for g in expected.gradients.values()), default=0.0)

    def note(name: str, given: Tensor, wanted: Tensor) -> None:
        assert given.shape == wanted.shape, (name, given.shape, wanted.shape)
        if wanted.numel() and not torch.equal(given, wanted):
            scale = steepest if name == "parameters" else float(wanted.abs().max())
            worst[name] = max(worst[name], float((given - wanted).abs().max()) / scale)

    covered = torch.zeros_like(expected.output)
    mesh = torch.arange(len(parts)).reshape(case.mesh)
    for rank, part in enumerate(parts):
        note("output", part.output, expected.output[part.box])
        covered[part.box] += 1
        place = [int(i) for i in (mesh == rank).nonzero()[0]]
        if case.gradients:
            cut = (..., *parts_of(case.all_cuts(), place))
            note("input", part.image_gradient, expected.image_gradient[cut])
        assert part.gradients.keys() == expected.gradients.keys()
        for name, gradient in expected.gradients.items():
            note("parameters", part.gradients[name], gradient)
        for name, buffer in expected.buffers.items():
            note("buffers", part.buffers[name].double(), buffer.double())
    assert bool((covered == 1).all())
    return worst
