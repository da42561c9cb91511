"""Convolutions of a part and the planes around it, in little more memory than the part takes.

Neither way keeps a copy of the part with its halos:

- With gradients, such a copy is made for the convolution and dropped. The part, which the network
  holds anyhow, and the planes that came from other ranks are kept; on the way back the copy is made
  of them again, with the same values, for as long as the gradients are computed.
- A large part is read and convolved in slabs; in training only a very large one, also for what
  kernels take beside their input: oneDNN pads two channels to sixteen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from exactile.geometry import Box, Interval
from exactile.partition.exchange import Want, return_box
from exactile.partition.layout import unchanged
from exactile.partition.mesh import Mesh
from exactile.partition.surroundings import Surroundings, surround

SLAB_BYTES = 2**18
"""Parts with halos that take more than this are convolved in slabs of about this size."""
SLAB_BYTES_IN_TRAINING = 2**26
"""The same where there are gradients."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """How a convolution slides, along all axes, in the terms of PyTorch."""

    stride: tuple[int, ...]
    """Positions from one window to the next."""
    padding: tuple[int, ...]
    """Zeros on both sides, of axes that are not split."""
    dilation: tuple[int, ...]
    """Positions from one tap to the next."""
    groups: int
    """Groups of channels."""
    output_padding: tuple[int, ...] | None = None
    """Of transposed convolutions, and of no others: positions after the last."""

    def arguments(self) -> tuple[Any, ...]:
        """Return what PyTorch's function takes after the bias."""
        if self.output_padding is None:
            return self.stride, self.padding, self.dilation, self.groups
        return self.stride, self.padding, self.output_padding, self.groups, self.dilation


def convolved(
    func: Callable[..., Tensor],
    local: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    kernel: Kernel,
    mesh: Mesh,
    wants: Sequence[Want],
) -> Tensor:
    """Return `func`, a function of PyTorch, of what `wants` says around the part `local`."""
    wants = [want for want in wants if not unchanged(want.split, want.wanted)]
    if not wants:
        return func(local, weight, bias, *kernel.arguments())
    needs = any(t is not None and t.requires_grad for t in (local, weight, bias))
    if not (needs and torch.is_grad_enabled()):
        around = surround(local, mesh, wants)
        return _in_slabs(func, around, weight, bias, kernel, wants[0].dim, SLAB_BYTES)
    kind = local.device.type
    if torch.is_autocast_enabled(kind) and local.dtype != torch.float64:
        # As autocast does within the function; but what is kept must have the gradient's type.
        low = torch.get_autocast_dtype(kind)
        local, weight = local.to(low), weight.to(low)
        bias = None if bias is None else bias.to(low)
    made: Tensor = _Convolved.apply(local, weight, bias, func, kernel, mesh, tuple(wants))  # type: ignore[no-untyped-call]
    return made


def _slabs(
    around: Surroundings, weight: Tensor, kernel: Kernel, dim: int, most: int
) -> list[tuple[Interval, Box]]:
    """Return slabs of outputs across `dim`, and what they read, of about `most` bytes.

    The dimension is exchanged, so that the kernel does not pad it. Transposed convolutions are
    seldom large, where they exchange at all: all at once.
    """
    box, axis = around.box, dim - len(around.box.axes)
    stride, span = kernel.stride[axis], (weight.shape[axis] - 1) * kernel.dilation[axis] + 1
    count = -(-box.size * weight.element_size() // most)
    if kernel.output_padding is not None or count <= 1:
        return [(Interval(0, 0), box)]
    outputs = (box.axes[dim].length - span) // stride + 1
    # Slabs overlap by the window: thinner ones would be read twice.
    step = max(-(-outputs // count), -(-2 * span // stride))
    slabs = []
    for own in Interval(0, outputs).split(step):
        first = box.axes[dim].start + own.start * stride
        read = Interval(first, first + (own.length - 1) * stride + span)
        slabs.append((own, Box((*box.axes[:dim], read, *box.axes[dim + 1 :]))))
    return slabs


def _in_slabs(
    func: Callable[..., Tensor],
    around: Surroundings,
    weight: Tensor,
    bias: Tensor | None,
    kernel: Kernel,
    dim: int,
    most: int,
) -> Tensor:
    slabs = _slabs(around, weight, kernel, dim, most)
    if len(slabs) == 1:
        return func(around.read(around.box), weight, bias, *kernel.arguments())
    made: Tensor | None = None
    for own, box in slabs:
        part = func(around.read(box), weight, bias, *kernel.arguments())
        if made is None:
            shape = list(part.shape)
            shape[dim] = slabs[-1][0].stop
            made = part.new_empty(shape)
        made.narrow(dim, own.start, own.length).copy_(part)
        # Else it would be held while the next one is made.
        del part
    assert made is not None
    return made


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        local: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        func: Callable[..., Tensor],
        kernel: Kernel,
        mesh: Mesh,
        wants: tuple[Want, ...],
    ) -> Tensor:
        around = surround(local, mesh, wants)
        received = [piece.values for piece in around.pieces[1:]]
        ctx.save_for_backward(weight, local, *received)
        # Places alone: the values would be kept past what is saved.
        ctx.around = around.with_values([local.new_empty(0)] * len(around.pieces))
        ctx.kernel, ctx.mesh, ctx.wants = kernel, mesh, wants
        ctx.place, ctx.biases = mesh.journal.place, None if bias is None else list(bias.shape)
        dim = wants[0].dim
        return _in_slabs(func, around, weight, bias, kernel, dim, SLAB_BYTES_IN_TRAINING)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, *pieces = ctx.saved_tensors
        kernel: Kernel = ctx.kernel
        around: Surroundings = ctx.around.with_values(pieces)
        dim = ctx.wants[0].dim
        slabs = _slabs(around, weight, kernel, dim, SLAB_BYTES_IN_TRAINING)
        wanted = list(ctx.needs_input_grad[:3])
        made: list[Tensor | None] = [None, None, None]
        for own, box in slabs:
            outer = gradient if len(slabs) == 1 else gradient.narrow(dim, own.start, own.length)
            some = _backward(outer, around.read(box), weight, ctx.biases, kernel, wanted)
            if len(slabs) == 1:
                made = list(some)
                break
            if some[0] is not None:
                whole = some[0].new_zeros(around.box.shape) if made[0] is None else made[0]
                whole[box.relative_to(around.box).slices].add_(some[0])
                made[0] = whole
            for which, summand in enumerate(some[1:], 1):
                known = made[which]
                made[which] = summand if known is None or summand is None else known.add_(summand)
        if made[0] is not None:
            with ctx.mesh.journal.back_at(ctx.place):
                made[0] = return_box(made[0], ctx.mesh, ctx.wants)
        return (*made, None, None, None, None)


def _backward(
    gradient: Tensor,
    box: Tensor,
    weight: Tensor,
    biases: list[int] | None,
    kernel: Kernel,
    wanted: list[bool],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the box, the weight and the bias."""
    made: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
        gradient,
        box,
        weight,
        biases,
        kernel.stride,
        kernel.padding,
        kernel.dilation,
        kernel.output_padding is not None,
        kernel.output_padding or (0,) * len(kernel.stride),
        kernel.groups,
        wanted,
    )
    return made
