"""Operators that move, cut, join or rename dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from exactile.partition.align import conform, joint_layout, mesh_of, whole
from exactile.partition.exchange import fetch
from exactile.partition.layout import Layout, Split, parts_as_wanted
from exactile.partition.refusal import Refused
from exactile.partition.registry import name_of, rule
from exactile.partition.tensor import SplitTensor, own_part, wrap

RESHAPED = (
    "it puts split axes together, or cuts one where parts do not end; keep split axes apart from "
    "others"
)


@rule("permute")
def permute(func: Any, input: SplitTensor, dim: Sequence[int]) -> Tensor:
    """Reorder dimensions with their splits."""
    return wrap(input.local.permute(tuple(dim)), [input.splits[d] for d in dim], input.mesh)


@rule("transpose", "swapaxes", "swapdims")
def transpose(func: Any, input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Exchange two dimensions with their splits."""
    assert isinstance(input, SplitTensor), "the first argument of a function of one is split"
    layout = list(input.splits)
    layout[dim0], layout[dim1] = layout[dim1], layout[dim0]
    return wrap(input.local.transpose(dim0, dim1), layout, input.mesh)


@rule("movedim", "moveaxis")
def movedim(func: Any, input: SplitTensor, source: Any, destination: Any) -> Tensor:
    """Move dimensions with their splits."""
    order = torch.empty(tuple(range(1, input.dim() + 1)), device="meta")
    moved = [side - 1 for side in order.movedim(source, destination).shape]
    return permute(func, input, moved)


@rule("unsqueeze")
def unsqueeze(func: Any, input: SplitTensor, dim: int) -> Tensor:
    """Insert a dimension of extent 1."""
    layout = list(input.splits)
    layout.insert(dim % (input.dim() + 1), None)
    return wrap(input.local.unsqueeze(dim), layout, input.mesh)


@rule("squeeze")
def squeeze(func: Any, input: SplitTensor, dim: Any = None) -> Tensor:
    """Drop dimensions of extent 1 that are not split."""
    given = range(input.dim()) if dim is None else [dim] if isinstance(dim, int) else dim
    dims = [d % input.dim() for d in given if input.shape[d] == 1]
    whole(input, dims, "drops positions")
    left = [split for at, split in enumerate(input.splits) if at not in dims]
    return wrap(input.local.squeeze(dims), left, input.mesh)


def reshaped_layout(
    input: SplitTensor, shape: Sequence[int]
) -> tuple[list[int], list[Split | None]]:
    """Return the part's shape and the layout of `input` reshaped to `shape`.

    Neighbouring dimensions are taken together until both shapes have as many positions. Among them
    the first longer than 1 may be split: then a part is one run of the positions taken together.
    """
    local: list[int] = []
    layout: list[Split | None] = []
    before, after = list(enumerate(input.shape)), list(shape)
    while before or after:
        old, new = [before.pop(0)] if before else [], [after.pop(0)] if after else []
        while prod(s for _, s in old) != prod(new):
            if prod(s for _, s in old) < prod(new):
                old.append(before.pop(0))
            else:
                new.append(after.pop(0))
        splits = [(at, split) for at, _ in old if (split := input.splits[at]) is not None]
        made: list[Split | None] = [None] * len(new)
        sides = list(new)
        if splits:
            long = [at for at, side in old if side > 1] or [splits[0][0]]
            place = next((i for i, side in enumerate(new) if side > 1), 0)
            if len(splits) > 1 or long[0] != splits[0][0]:
                raise Refused(RESHAPED)
            outer, inner = prod(s for at, s in old if at > long[0]), prod(new[place + 1 :])
            if any(cut * outer % inner for cut in splits[0][1].cuts):
                raise Refused(RESHAPED)
            cuts = tuple(cut * outer // inner for cut in splits[0][1].cuts)
            made[place] = target = Split(splits[0][1].axis, cuts)
            sides[place] = own_part(target, input.mesh).length
        layout += made
        local += sides
    return local, layout


@rule("reshape", "view")
def reshape(
    func: Any, input: SplitTensor, shape: Sequence[int] | None = None, dtype: Any = None
) -> Tensor:
    """Reshape the part, where split axes stay apart."""
    if dtype is not None or shape is None:
        raise Refused("it reads numbers as another type; convert with to()")
    sides = list(shape)
    if -1 in sides:
        known = prod(side for side in sides if side != -1)
        sides[sides.index(-1)] = input.numel() // known
    local, layout = reshaped_layout(input, sides)
    return wrap(input.local.reshape(local), layout, input.mesh)


@rule("flatten")
def flatten(func: Any, input: SplitTensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Put dimensions together."""
    first, last = start_dim % input.dim(), end_dim % input.dim()
    sides = list(input.shape)
    merged = [*sides[:first], prod(sides[first : last + 1]), *sides[last + 1 :]]
    return reshape(func, input, merged)


@rule("__getitem__")
def getitem(func: Any, input: SplitTensor, index: Any) -> Tensor:
    """Cut with numbers and slices; along a split axis with slices only."""
    items = list(index) if isinstance(index, tuple) else [index]
    if any(not isinstance(i, (int, slice)) and i is not None and i is not ... for i in items):
        raise Refused("it selects by values; use slices and numbers")
    used = sum(i is not None and i is not ... for i in items)
    if ... not in items:
        items.append(...)
    at = items.index(...)
    items[at : at + 1] = [slice(None)] * (input.dim() - used)
    layout: list[Split | None] = []
    local: list[Any] = []
    dim = 0
    for item in items:
        if item is None:
            layout.append(None)
            local.append(None)
            continue
        split = input.splits[dim]
        if split is None:
            local.append(item)
            layout += [] if isinstance(item, int) else [None]
        elif isinstance(item, int):
            raise Refused("it takes one position of a split axis; keep all, or take a slice")
        else:
            target, part = _sliced(split, item, input)
            layout.append(target)
            local.append(part)
        dim += 1
    return wrap(input.local[tuple(local)], layout, input.mesh)


def _sliced(split: Split, item: slice, input: SplitTensor) -> tuple[Split, slice]:
    """Return the split of a slice of a split axis, and the slice of the part."""
    start, stop, step = item.indices(split.extent)
    extent = len(range(start, stop, step))
    target = split.moved(extent, lambda cut: -(-(cut - start) // step))
    own, out = own_part(split, input.mesh), own_part(target, input.mesh)
    first = start + out.start * step - own.start
    if not out.length:
        return target, slice(0, 0)
    return target, slice(first, first + (out.length - 1) * step + 1, step)


@rule("narrow")
def narrow(func: Any, input: SplitTensor, dim: int, start: int, length: int) -> Tensor:
    """Cut a slice out."""
    index = [slice(None)] * input.dim()
    start = start % input.shape[dim] if start < 0 else start
    index[dim] = slice(start, start + length)
    return getitem(func, input, tuple(index))


@rule("select")
def select(func: Any, input: SplitTensor, dim: int, index: int) -> Tensor:
    """Take one position of a dimension."""
    items: list[Any] = [slice(None)] * input.dim()
    items[dim] = index
    return getitem(func, input, tuple(items))


@rule("cat", "concat", "concatenate", "stack")
def join(func: Any, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Bring the tensors to the first one's cuts and join them along a dimension not split."""
    mesh = mesh_of(tensors)
    first = next(tensor for tensor in tensors if isinstance(tensor, SplitTensor))
    stacked = name_of(func) == "stack"
    at = dim % (first.dim() + stacked)
    if not stacked:
        for tensor in tensors:
            whole(tensor, [at], "joins tensors")
    target = joint_layout(tensors)
    for tensor in tensors:
        for axis, split in enumerate(target):
            if split is not None and tensor.shape[axis] != split.extent:
                raise Refused(
                    f"it joins extents {tensor.shape[axis]} and {split.extent} of a split axis"
                )
    made = func([conform(tensor, target, mesh) for tensor in tensors], dim)
    layout = [*target[:at], None, *target[at:]] if stacked else target
    return wrap(made, layout, mesh)


@rule("expand", "broadcast_to")
def expand(func: Any, input: Tensor, shape: Sequence[int]) -> Tensor:
    """Broadcast along dimensions that are not split."""
    assert isinstance(input, SplitTensor), "sizes are no tensors"
    more = len(shape) - input.dim()
    layout: Layout = (None,) * more + input.splits
    local = [
        side if split is None else own_part(split, input.mesh).length
        for side, split in zip(shape, layout, strict=True)
    ]
    return wrap(input.local.expand(local), layout, input.mesh)


@rule("expand_as")
def expand_as(func: Any, input: Tensor, other: Tensor) -> Tensor:
    """Broadcast to the shape of a tensor."""
    if isinstance(other, SplitTensor):
        part = conform(input, other.splits, other.mesh)
        return wrap(part.expand_as(other.local), other.splits, other.mesh)
    return expand(func, input, other.shape)


@rule("pixel_shuffle")
def pixel_shuffle(func: Any, input: SplitTensor, upscale_factor: int) -> Tensor:
    """Move channels into space."""
    whole(input, range(input.dim() - 2), "moves channels")
    layout = [
        None if s is None else Split(s.axis, tuple(cut * upscale_factor for cut in s.cuts))
        for s in input.splits
    ]
    # As two reshapes: PyTorch's own fails on the way back of an empty part.
    *lead, channels, height, width = input.local.shape
    factor = upscale_factor
    parts = input.local.reshape(*lead, channels // factor**2, factor, factor, height, width)
    made = parts.movedim((-4, -3), (-3, -1))
    made = made.reshape(*lead, channels // factor**2, height * factor, width * factor)
    return wrap(made, layout, input.mesh)


@rule("pixel_unshuffle")
def pixel_unshuffle(func: Any, input: SplitTensor, downscale_factor: int) -> Tensor:
    """Move space into channels, from cuts on multiples of the factor."""
    whole(input, range(input.dim() - 2), "moves channels")
    local, layout, factor = input.local, list(input.splits), downscale_factor
    for dim, split in enumerate(input.splits):
        if split is None:
            continue
        if split.extent % factor:
            raise Refused(f"extent {split.extent} does not divide by {factor}; pad the volume")
        target = Split(split.axis, tuple(-(-cut // factor) for cut in split.cuts))
        coarse = Split(split.axis, tuple(cut * factor for cut in target.cuts))
        local = fetch(local, dim, input.mesh, split, parts_as_wanted(coarse))
        layout[dim] = target
    *lead, channels, height, width = local.shape
    parts = local.reshape(
        *lead, channels, height // factor, factor, width // factor, factor
    ).movedim((-3, -1), (-4, -3))
    made = parts.reshape(*lead, channels * factor**2, height // factor, width // factor)
    return wrap(made, layout, input.mesh)


@rule("channel_shuffle")
def channel_shuffle(func: Any, input: SplitTensor, groups: int) -> Tensor:
    """Reorder channels."""
    whole(input, [1], "moves channels")
    return wrap(F.channel_shuffle(input.local, groups), input.splits, input.mesh)
