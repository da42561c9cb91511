"""Batch, instance, group and layer normalisation with statistics of all ranks.

Statistics are in float64 (`sums`), and what float32 cannot hold of a mean goes into the shift: of a
map whose mean is large beside its spread, no digit is lost that the map has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from exactile.partition.align import conform, layout_of, whole
from exactile.partition.exchange import enter
from exactile.partition.mesh import Mesh
from exactile.partition.reduced import axes_along, few
from exactile.partition.refusal import Refused
from exactile.partition.registry import rule
from exactile.partition.sums import added, moments, moments_of_all, wide
from exactile.partition.tensor import SplitTensor, wrap

Optional = Tensor | None


def per_channel(tensor: Optional, ndim: int) -> Optional:
    """Return a tensor of channels shaped to be broadcast along dimension 1."""
    return None if tensor is None else tensor.reshape(1, -1, *(1,) * (ndim - 2))


def blend(running: Tensor, seen: Tensor, momentum: float) -> None:
    """Move running statistics towards those seen, as PyTorch does."""
    running.mul_(1 - momentum).add_(seen.detach().reshape(-1).to(running.dtype), alpha=momentum)


@rule("batch_norm", statistic=True)
def batch_norm(
    func: Any,
    input: Tensor,
    running_mean: Optional,
    running_var: Optional,
    weight: Optional = None,
    bias: Optional = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel over batch and space."""
    image = _image(input)
    if not training:
        return _running(image, running_mean, running_var, weight, bias, eps)
    dims = [0, *range(2, image.dim())]
    return _normalized(image, dims, running_mean, running_var, weight, bias, momentum, eps)


@rule("instance_norm", statistic=True)
def instance_norm(
    func: Any,
    input: Tensor,
    running_mean: Optional = None,
    running_var: Optional = None,
    weight: Optional = None,
    bias: Optional = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of each image over space."""
    image = _image(input)
    if not use_input_stats:
        return _running(image, running_mean, running_var, weight, bias, eps)
    dims = list(range(2, image.dim()))
    return _normalized(image, dims, running_mean, running_var, weight, bias, momentum, eps)


def _image(input: Tensor) -> SplitTensor:
    if not isinstance(input, SplitTensor):
        raise Refused("its weights are split; only its input may be")
    whole(input, [0, 1], "normalises beside an axis")
    return input


def _running(
    image: SplitTensor,
    mean: Optional,
    variance: Optional,
    weight: Optional,
    bias: Optional,
    eps: float,
) -> Tensor:
    """Normalise with statistics known before: position by position."""
    weight = None if weight is None else enter(weight, image.mesh, image.axes)
    bias = None if bias is None else enter(bias, image.mesh, image.axes)
    made = F.batch_norm(image.local, mean, variance, weight, bias, False, 0.0, eps)
    return wrap(made, image.splits, image.mesh)


def _normalized(
    image: SplitTensor,
    dims: list[int],
    running_mean: Optional,
    running_var: Optional,
    weight: Optional,
    bias: Optional,
    momentum: float,
    eps: float,
    groups: int | None = None,
) -> Tensor:
    """Normalise over `dims` of all ranks, and blend the running statistics.

    With `groups`, channels are taken together in so many.
    """
    count = prod(image.shape[dim] for dim in dims)
    count *= 1 if groups is None else image.shape[1] // groups
    if count == 1 and groups is None:
        raise Refused("it has one value for each channel, which has no variance")
    axes = axes_along(image, dims)
    channels, shift = per_channel(weight, image.dim()), per_channel(bias, image.dim())
    over = _Over(tuple(dims), groups, count, eps)
    made, centre, squares = _Normalized.apply(  # type: ignore[no-untyped-call]
        image.local, channels, shift, over, image.mesh, axes
    )
    if running_mean is not None and running_var is not None:
        blend(running_mean, centre.mean(0), momentum)
        blend(running_var, (squares / (count - 1)).mean(0), momentum)
    return wrap(made, image.splits, image.mesh)


@dataclass(frozen=True, slots=True)
class _Over:
    """What is normalised together."""

    dims: tuple[int, ...]
    """Dimensions beside that of channels."""
    groups: int | None
    """Groups of channels; None where each is by itself."""
    count: int
    """Values of all ranks."""
    eps: float
    """What is added to the variance."""

    def means(self, sums: Tensor) -> Tensor:
        """Return the means that belong to sums (.., channels, ..) over `dims`."""
        if self.groups is None:
            return sums / self.count
        shape = (sums.shape[0], self.groups, -1, *sums.shape[2:])
        grouped = sums.reshape(shape)
        return grouped.sum(2, keepdim=True).expand_as(grouped).reshape(sums.shape) / self.count


class _Normalized(torch.autograd.Function):
    """Normalise a part by the statistics of all ranks, and keep for the way back the part alone.

    With y = (x - mean) r, the gradient g of w y + b, and z = w g, that of x is
    r (z - [z] - y [z y]), [.] being the mean over what is normalised, of all ranks: Ioffe and
    Szegedy (2015), section 3.
    """

    @staticmethod
    def forward(
        ctx: Any,
        local: Tensor,
        weight: Optional,
        bias: Optional,
        over: _Over,
        mesh: Mesh,
        axes: tuple[int, ...],
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, squares = moments_of_all(local, over.dims, over.count, mesh, axes, over.groups)
        root = torch.rsqrt(squares / over.count + over.eps)
        ctx.save_for_backward(local, mean, root, weight)
        ctx.over, ctx.mesh, ctx.axes = over, mesh, axes
        ctx.place, ctx.type = mesh.journal.place, None if bias is None else bias.dtype
        made = normal(local, mean, root if weight is None else root * weight, bias)
        ctx.mark_non_differentiable(mean, squares)
        return made.to(local.dtype), mean, squares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        local, mean, root, weight = ctx.saved_tensors
        over: _Over = ctx.over
        y = normal(local, mean, root, None)
        g = wide(gradient)
        sums = torch.stack([added(g, over.dims), added(g * y, over.dims)])
        with ctx.mesh.journal.back_at(ctx.place):
            ctx.mesh.all_reduce(sums, ctx.axes, dist.ReduceOp.SUM)
        for_bias, for_weight = (each.sum(0, keepdim=True) for each in sums)
        scale = root if weight is None else root * weight
        plain, slanted = (
            over.means(each if weight is None else each * weight) * root for each in sums
        )
        kind = y.dtype
        y.mul_(-slanted.to(kind)).sub_(plain.to(kind)).add_(g * scale.to(kind))
        return (
            y.to(local.dtype),
            None if weight is None else for_weight.to(weight.dtype),
            None if ctx.type is None else for_bias.to(ctx.type),
            *(None, None, None),
        )


def normal(local: Tensor, mean: Tensor, scale: Tensor, bias: Optional) -> Tensor:
    """Return (local - mean) * scale + bias in the precision of results; statistics are float64."""
    kind = wide(local).dtype
    near = mean.to(kind)
    # A difference from a float32 near the mean is exact where digits are short; the rest is small.
    shift = (near.double() - mean) * scale
    made = torch.sub(local, near).to(kind).mul_(scale.to(kind))
    return made.add_((shift if bias is None else shift + bias).to(kind))


@rule("group_norm", statistic=True)
def group_norm(
    func: Any,
    input: Tensor,
    num_groups: int,
    weight: Optional = None,
    bias: Optional = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise groups of channels of each image over space."""
    image = _image(input)
    dims = list(range(2, image.dim()))
    return _normalized(image, dims, None, None, weight, bias, 0.0, eps, num_groups)


@rule("layer_norm", statistic=True)
def layer_norm(
    func: Any,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Optional = None,
    bias: Optional = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise over the last dimensions."""
    if not isinstance(input, SplitTensor):
        raise Refused("its weights are split; only its input may be")
    mesh, layout = input.mesh, layout_of(input)
    dims = list(range(input.dim() - len(normalized_shape), input.dim()))
    axes = axes_along(input, dims)
    weight = None if weight is None else conform(weight, layout, mesh)
    bias = None if bias is None else conform(bias, layout, mesh)
    if few(input, dims):
        made = F.layer_norm(input.local, normalized_shape, weight, bias, eps)
        return wrap(made, layout, mesh)
    count = prod(input.shape[dim] for dim in dims)
    mean, squares = moments(input.local, dims, count, mesh, axes)
    kind = wide(input.local).dtype
    near = enter(mean.to(kind), mesh, axes)
    root = enter(torch.rsqrt(squares / count + eps), mesh, axes)
    # What float32 cannot hold of the mean, which has no gradient of its own.
    rest = (near.double() - mean).detach().to(kind)
    made = (input.local - near + rest) * root.to(kind)
    made = made if weight is None else made * weight
    made = made if bias is None else made + bias
    return wrap(made.to(input.dtype), layout, mesh)
