"""Batch, instance, group and layer normalisation with statistics of all ranks."""

from __future__ import annotations

from collections.abc import Sequence
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
from exactile.partition.reduction import axes_along, moments, wide
from exactile.partition.refusal import Refused
from exactile.partition.registry import rule
from exactile.partition.tensor import SplitTensor, wrap

Optional = Tensor | None


def affine(apart: Tensor, scale: Tensor, bias: Optional, input: SplitTensor) -> Tensor:
    """Return apart * scale + bias; both are the same on all ranks."""
    made = apart * enter(scale, input.mesh, input.axes)
    return made if bias is None else made + enter(bias, input.mesh, input.axes)


def per_channel(tensor: Optional, ndim: int) -> Optional:
    """Return a tensor of channels shaped to be broadcast along dimension 1."""
    return None if tensor is None else tensor.reshape(1, -1, *(1,) * (ndim - 2))


def blend(running: Tensor, seen: Tensor, momentum: float) -> None:
    """Move running statistics towards those seen, as PyTorch does."""
    running.mul_(1 - momentum).add_(seen.detach().reshape(-1).to(running.dtype), alpha=momentum)


@rule("batch_norm", places=(F,))
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


@rule("instance_norm", places=(F,))
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
) -> Tensor:
    """Normalise over `dims` of all ranks, and blend the running statistics."""
    count = prod(image.shape[dim] for dim in dims)
    if count == 1:
        raise Refused("it has one value for each channel, which has no variance")
    axes = axes_along(image, dims)
    channels, shift = per_channel(weight, image.dim()), per_channel(bias, image.dim())
    made, centre, squares = _Normalized.apply(  # type: ignore[no-untyped-call]
        image.local, channels, shift, (tuple(dims), count, eps), image.mesh, axes
    )
    if running_mean is not None and running_var is not None:
        blend(running_mean, centre.mean(0), momentum)
        blend(running_var, (squares / (count - 1)).mean(0), momentum)
    return wrap(made, image.splits, image.mesh)


class _Normalized(torch.autograd.Function):
    """Normalise a part by the statistics of all ranks, and keep for the way back the part alone.

    With y = (x - mean) r and the gradient g of w y + b, that of x is w r (g - [g] - y [g y]), [.]
    being the mean over what is normalised, of all ranks: Ioffe and Szegedy (2015), section 3.
    """

    @staticmethod
    def forward(
        ctx: Any,
        local: Tensor,
        weight: Optional,
        bias: Optional,
        over: tuple[tuple[int, ...], int, float],
        mesh: Mesh,
        axes: tuple[int, ...],
    ) -> tuple[Tensor, Tensor, Tensor]:
        dims, count, eps = over
        apart, centre, squares = moments(wide(local), dims, count, mesh, axes)
        root = torch.rsqrt(squares / count + eps)
        ctx.save_for_backward(local, centre, root, weight)
        ctx.dims, ctx.count, ctx.mesh, ctx.axes = dims, count, mesh, axes
        ctx.place, ctx.type = mesh.journal.place, None if bias is None else bias.dtype
        made = apart.mul_(root if weight is None else root * weight)
        made = made if bias is None else made.add_(bias)
        ctx.mark_non_differentiable(centre, squares)
        return made.to(local.dtype), centre, squares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        local, centre, root, weight = ctx.saved_tensors
        g = wide(gradient)
        y = (wide(local) - centre).mul_(root)
        sums = torch.stack([g.sum(ctx.dims, keepdim=True), (g * y).sum(ctx.dims, keepdim=True)])
        with ctx.mesh.journal.back_at(ctx.place):
            ctx.mesh.all_reduce(sums, ctx.axes, dist.ReduceOp.SUM)
        plain, slanted = sums / ctx.count
        y.mul_(-slanted).sub_(plain).add_(g)
        y.mul_(root if weight is None else root * weight)
        for_bias, for_weight = (each.sum(0, keepdim=True) for each in sums)
        return (
            y.to(local.dtype),
            None if weight is None else for_weight.to(weight.dtype),
            None if ctx.type is None else for_bias.to(ctx.type),
            *(None, None, None),
        )


@rule("group_norm", places=(F, torch))
def group_norm(
    func: Any,
    input: Tensor,
    num_groups: int,
    weight: Optional = None,
    bias: Optional = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """Normalise groups of channels of each image over space."""
    image = _image(input)
    local = image.local
    sides = local.shape[2:]
    grouped = wide(local).reshape(local.shape[0], num_groups, local.shape[1] // num_groups, *sides)
    dims = list(range(2, grouped.dim()))
    count = prod(image.shape[1:]) // num_groups
    axes = axes_along(image, range(2, image.dim()))
    apart, _, squares = moments(grouped, dims, count, image.mesh, axes)
    scale = torch.rsqrt(squares / count + eps)
    channels, shift = per_channel(weight, image.dim()), per_channel(bias, image.dim())
    each = scale.expand(-1, -1, grouped.shape[2], *(1,) * len(sides))
    each = each.reshape(local.shape[0], -1, *(1,) * len(sides))
    apart = apart.reshape(local.shape)
    made = affine(apart, each if channels is None else each * channels, shift, image)
    return wrap(made.to(image.dtype), image.splits, image.mesh)


@rule("layer_norm", places=(F, torch))
def layer_norm(
    func: Any,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Optional = None,
    bias: Optional = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """Normalise over the last dimensions."""
    if not isinstance(input, SplitTensor):
        raise Refused("its weights are split; only its input may be")
    mesh, layout = input.mesh, layout_of(input)
    dims = list(range(input.dim() - len(normalized_shape), input.dim()))
    axes = axes_along(input, dims)
    weight = None if weight is None else conform(weight, layout, mesh)
    bias = None if bias is None else conform(bias, layout, mesh)
    if not axes:
        made = F.layer_norm(input.local, normalized_shape, weight, bias, eps)
        return wrap(made, layout, mesh)
    count = prod(input.shape[dim] for dim in dims)
    apart, _, squares = moments(wide(input.local), dims, count, mesh, axes)
    made = apart * enter(torch.rsqrt(squares / count + eps), mesh, axes)
    made = made if weight is None else made * weight
    made = made if bias is None else made + bias
    return wrap(made.to(input.dtype), layout, mesh)
