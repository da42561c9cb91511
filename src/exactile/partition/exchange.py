"""The exchange of planes between ranks, and what goes with it, each with its adjoint.

Gradients follow one convention. A tensor that is split has its own part of the gradient on each
rank. A tensor that every rank holds whole (a weight, a mean over space) has the same, whole
gradient on each rank, of the sum over ranks. Hence

    forward                                             backward
    fetch    positions that other ranks own             send back, and add
    enter    a whole tensor meets split ones            sum over the ranks
    total    sums over ranks, which all get             each hands its gradient on

All ranks make the same calls in the same order, on the way back too: the engine of autograd takes
the functions in the opposite order of their making.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from exactile.geometry import Interval
from exactile.partition.layout import Split, Wanted, unchanged
from exactile.partition.mesh import Mesh

Places = list[tuple[int, int]]
"""Where runs lie in a tensor: start and length of each."""


def fetch(
    local: Tensor,
    dim: int,
    mesh: Mesh,
    split: Split,
    wanted: Sequence[Wanted],
    value: float = 0,
) -> Tensor:
    """Return what this rank wants of dimension `dim`, of which it owns its part of `split`.

    `wanted` says for each rank along the axis what it wants; constant positions get `value`. No
    more than the positions wanted is sent, one message for each pair of ranks.
    """
    if unchanged(split, wanted):
        return local
    made: Tensor = _Fetch.apply(local, dim, mesh, split, tuple(wanted), value)  # type: ignore[no-untyped-call]
    return made


@dataclass(frozen=True, slots=True)
class Want:
    """What the ranks want of one dimension."""

    dim: int
    """The dimension of the tensor."""
    split: Split
    """How it is split."""
    wanted: tuple[Wanted, ...]
    """What each rank along the axis wants of it."""


def fetch_box(local: Tensor, mesh: Mesh, wants: Sequence[Want], value: float = 0) -> Tensor:
    """Return what this rank wants of several dimensions; constant positions get `value`.

    Each dimension is fetched with the planes that those before it brought, so corners come
    through. Constants are put in place at the end: none is sent.
    """
    if len(wants) == 1:
        (only,) = wants
        return fetch(local, only.dim, mesh, only.split, only.wanted, value)
    pads = [0, 0] * local.dim()
    for want in wants:
        local = fetch(local, want.dim, mesh, want.split, _runs(want))
        mine = want.wanted[mesh.coordinate[want.split.axis]]
        place = 2 * (local.dim() - 1 - want.dim)
        pads[place : place + 2] = mine.low, mine.high
    return F.pad(local, pads, value=value) if any(pads) else local


def return_box(gradient: Tensor, mesh: Mesh, wants: Sequence[Want]) -> Tensor:
    """Return the part's gradient, of that of the box that `fetch_box` gives for `wants`."""
    for want in reversed(wants):
        mine = want.wanted[mesh.coordinate[want.split.axis]]
        gradient = gradient.narrow(want.dim, mine.low, mine.length - mine.low - mine.high)
    for want in reversed(wants):
        side = want.split.parts[mesh.coordinate[want.split.axis]].length
        plan = _Plan(mesh, want.split, _runs(want))
        gradient = _returned(gradient, want.dim, mesh, plan, side)
    return gradient


def _runs(want: Want) -> list[Wanted]:
    """Return what the ranks want of one dimension, without constants."""
    return [Wanted(each.runs) for each in want.wanted]


def enter(tensor: Tensor, mesh: Mesh, axes: Iterable[int]) -> Tensor:
    """Return a tensor that all ranks along `axes` hold, for use with tensors split along them."""
    axes = tuple(sorted(set(axes)))
    if not axes or not tensor.requires_grad:
        return tensor
    made: Tensor = _Enter.apply(tensor, mesh, axes)  # type: ignore[no-untyped-call]
    return made


def total(tensor: Tensor, mesh: Mesh, axes: Iterable[int]) -> Tensor:
    """Return the sum of `tensor` over the ranks along `axes`."""
    made: Tensor = _Total.apply(tensor, mesh, tuple(sorted(set(axes))))  # type: ignore[no-untyped-call]
    return made


def greatest(tensor: Tensor, mesh: Mesh, axes: Iterable[int]) -> Tensor:
    """Return the maximum of `tensor` over the ranks along `axes`, without a gradient."""
    return mesh.all_reduce(tensor.detach().clone(), axes, dist.ReduceOp.MAX)


class _Plan:
    """Which places of the own part go where, and which places of the result come from where."""

    def __init__(self, mesh: Mesh, split: Split, wanted: Sequence[Wanted]) -> None:
        me = mesh.coordinate[split.axis]
        others = [place for place in range(len(wanted)) if place != me]
        self.own = _common(wanted[me], split.parts[me])
        self.sends = {
            mesh.peer(split.axis, place): [o for o, _ in _common(wanted[place], split.parts[me])]
            for place in others
        }
        self.receives = {
            mesh.peer(split.axis, place): [r for _, r in _common(wanted[me], split.parts[place])]
            for place in others
        }


def _common(want: Wanted, part: Interval) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return where what is wanted of `part` lies in the part, and where in the result."""
    made = []
    at = want.low
    for run in want.runs:
        common = run & part
        if common.length:
            place = at + common.start - run.start
            made.append(((common.start - part.start, common.length), (place, common.length)))
        at += run.length
    return made


def _taken(tensor: Tensor, dim: int, places: Places) -> Tensor:
    pieces = [tensor.narrow(dim, start, length) for start, length in places]
    return torch.cat(pieces, dim).contiguous() if len(pieces) > 1 else pieces[0].contiguous()


def _swap(
    mesh: Mesh,
    outgoing: Tensor,
    sends: dict[int, Places],
    incoming: dict[int, Places],
    dim: int,
) -> tuple[dict[int, Tensor], Any]:
    """Start to send `sends` of `outgoing`; return what will arrive, and how to wait for it."""
    buffers = {}
    for peer, places in incoming.items():
        if places:
            shape = list(outgoing.shape)
            shape[dim] = sum(length for _, length in places)
            buffers[peer] = outgoing.new_empty(shape)
    parcels = [(peer, _taken(outgoing, dim, at)) for peer, at in sends.items() if at]
    wait = mesh.swap(parcels, list(buffers.items()))
    received = sum(buffer.nbytes for buffer in buffers.values())
    mesh.journal.add(received, len(buffers))

    def finish() -> None:
        wait()
        # The parcels must live until they are sent.
        parcels.clear()

    return buffers, finish


class _Fetch(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        local: Tensor,
        dim: int,
        mesh: Mesh,
        split: Split,
        wanted: tuple[Wanted, ...],
        value: float,
    ) -> Tensor:
        plan = _Plan(mesh, split, wanted)
        ctx.dim, ctx.mesh, ctx.plan, ctx.side = dim, mesh, plan, local.shape[dim]
        ctx.place = mesh.journal.place
        arriving, wait = _swap(mesh, local, plan.sends, plan.receives, dim)
        want = wanted[mesh.coordinate[split.axis]]
        shape = list(local.shape)
        shape[dim] = want.length
        made = local.new_empty(shape)
        made.narrow(dim, 0, want.low).fill_(value)
        made.narrow(dim, want.length - want.high, want.high).fill_(value)
        for (start, length), (place, _) in plan.own:
            made.narrow(dim, place, length).copy_(local.narrow(dim, start, length))
        wait()
        for peer, buffer in arriving.items():
            pieces = torch.split(buffer, [length for _, length in plan.receives[peer]], dim)
            for (place, length), piece in zip(plan.receives[peer], pieces, strict=True):
                made.narrow(dim, place, length).copy_(piece)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with ctx.mesh.journal.back_at(ctx.place):
            made = _returned(gradient, ctx.dim, ctx.mesh, ctx.plan, ctx.side)
        return made, None, None, None, None, None


def _returned(gradient: Tensor, dim: int, mesh: Mesh, plan: _Plan, side: int) -> Tensor:
    """Send back the gradient of what was fetched, and add it up; `side` is the part's extent."""
    arriving, wait = _swap(mesh, gradient, plan.receives, plan.sends, dim)
    shape = list(gradient.shape)
    shape[dim] = side
    made = gradient.new_zeros(shape)
    for (start, length), (at, _) in plan.own:
        made.narrow(dim, start, length).add_(gradient.narrow(dim, at, length))
    wait()
    # In the order of ranks, so that the sums have the same bits in every run.
    for peer in sorted(arriving):
        pieces = torch.split(arriving[peer], [length for _, length in plan.sends[peer]], dim)
        for (start, length), piece in zip(plan.sends[peer], pieces, strict=True):
            made.narrow(dim, start, length).add_(piece)
    return made


class _Enter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, mesh: Mesh, axes: tuple[int, ...]) -> Tensor:
        ctx.mesh, ctx.axes, ctx.place = mesh, axes, mesh.journal.place
        return tensor.view_as(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        with ctx.mesh.journal.back_at(ctx.place):
            return ctx.mesh.all_reduce(summed, ctx.axes, dist.ReduceOp.SUM), None, None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, mesh: Mesh, axes: tuple[int, ...]) -> Tensor:
        summed = tensor.clone(memory_format=torch.contiguous_format)
        return mesh.all_reduce(summed, axes, dist.ReduceOp.SUM)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient, None, None
