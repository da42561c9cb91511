"""What moves values and computes none: axes, slices, margins, blocks, copies."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from exactile.models.onnx.registry import Arguments, Unsupported, operator

MARGINS = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
"""How torch calls the ways to fill a margin."""


@operator("Transpose")
def transpose(arguments: Arguments) -> Tensor:
    """Return the axes in another order."""
    image = arguments.tensor()
    return image.permute(arguments.get("perm", list(reversed(range(image.ndim)))))


@operator("Reshape")
def reshape(arguments: Arguments) -> Tensor:
    """Return the values in another shape, in which 0 stands for the axis as it is."""
    image, shape = arguments.tensor(0), arguments.listed("shape", 1) or []
    if not arguments.get("allowzero", 0):
        shape = [image.shape[axis] if side == 0 else side for axis, side in enumerate(shape)]
    return image.reshape(shape)


@operator("Flatten")
def flatten(arguments: Arguments) -> Tensor:
    """Return a matrix: the axes before `axis`, and those from it on."""
    image, axis = arguments.tensor(), arguments.get("axis", 1)
    if axis == 0:
        return image.reshape(1, -1)
    return image.flatten(axis).flatten(0, axis % image.ndim - 1)


@operator("Squeeze")
def squeeze(arguments: Arguments) -> Tensor:
    """Return the tensor without axes of one position."""
    axes = arguments.listed("axes", 1)
    image = arguments.tensor()
    return image.squeeze() if axes is None else image.squeeze(tuple(int(axis) for axis in axes))


@operator("Unsqueeze")
def unsqueeze(arguments: Arguments) -> Tensor:
    """Return the tensor with new axes of one position, numbered as in the result."""
    image, axes = arguments.tensor(), arguments.listed("axes", 1) or []
    dims = image.ndim + len(axes)
    for axis in sorted(int(axis) % dims for axis in axes):
        image = image.unsqueeze(axis)
    return image


@operator("Expand")
def expand(arguments: Arguments) -> Tensor:
    """Return the tensor broadcast with a shape."""
    image, shape = arguments.tensor(0), arguments.numbers(1)
    own = [1] * (len(shape) - image.ndim) + list(image.shape)
    wanted = [1] * (image.ndim - len(shape)) + shape
    sides = [
        have if isinstance(want, int) and want == 1 else want
        for have, want in zip(own, wanted, strict=True)
    ]
    return image.expand(sides)


@operator("Tile")
def tile(arguments: Arguments) -> Tensor:
    """Return the tensor several times along each axis."""
    return arguments.tensor(0).repeat(arguments.numbers(1))


@operator("Concat")
def concatenate(arguments: Arguments) -> Tensor:
    """Return tensors one after the other along an axis."""
    tensors = [arguments.tensor(place) for place in range(len(arguments.values))]
    return torch.cat(tensors, arguments.attributes["axis"])


@operator("Split")
def split(arguments: Arguments) -> tuple[Tensor, ...]:
    """Return parts along an axis, of given lengths or of equal ones."""
    image, axis = arguments.tensor(), arguments.get("axis", 0)
    parts = arguments.listed("split", 1)
    if parts is None:
        return torch.split(image, -(-image.shape[axis] // arguments.outputs), axis)
    return torch.split(image, parts, axis)


@operator("Slice")
def cut(arguments: Arguments) -> Tensor:
    """Return every step-th position between start and end, on the axes that are named."""
    image = arguments.tensor()
    starts, ends = arguments.listed("starts", 1) or [], arguments.listed("ends", 2) or []
    axes = arguments.listed("axes", 3) or list(range(len(starts)))
    steps = arguments.numbers(4) if arguments.has(4) else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0:
            if step != -1 or start not in (-1, image.shape[axis] - 1) or end > -image.shape[axis]:
                raise Unsupported(f"it takes {start}:{end}:{step}")
            image = image.flip(int(axis))
        else:
            whole: list[slice] = [slice(None)] * image.ndim
            whole[int(axis)] = slice(start, end, step)
            image = image[tuple(whole)]
    return image


@operator("Gather")
def gather(arguments: Arguments) -> Tensor:
    """Return the positions along an axis that the indices name."""
    image, axis = arguments.tensor(0), arguments.get("axis", 0)
    places = arguments.array(1)
    if places.ndim == 0:
        return image.select(axis, places.item())
    indices = torch.remainder(arguments.tensor(1), image.shape[axis])
    taken = image.index_select(axis, indices.reshape(-1))
    axis %= image.ndim
    sides = (*image.shape[:axis], *places.shape, *image.shape[axis + 1 :])
    return taken.reshape(sides) if places.ndim > 1 else taken


@operator("Pad")
def pad(arguments: Arguments) -> Tensor:
    """Return the tensor with margins; negative ones are taken off."""
    image, pads = arguments.tensor(), arguments.listed("pads", 1) or []
    axes = arguments.numbers(3) if arguments.has(3) else list(range(image.ndim))
    sides: list[tuple[int, int]] = [(0, 0)] * image.ndim
    for place, axis in enumerate(axes):
        sides[int(axis)] = (pads[place], pads[place + len(axes)])
    first = next((axis for axis, side in enumerate(sides) if side != (0, 0)), image.ndim)
    flat = [number for axis in range(image.ndim - 1, first - 1, -1) for number in sides[axis]]
    mode = arguments.get("mode", "constant")
    if mode not in MARGINS:
        raise Unsupported(f"mode is {mode!r}")
    if not flat:
        return image
    if mode == "constant":
        value = arguments.numbers(2)[0] if arguments.has(2) else arguments.get("value", 0.0)
        return F.pad(image, flat, value=value)
    return F.pad(image, flat, mode=MARGINS[mode])


@operator("DepthToSpace")
def depth_to_space(arguments: Arguments) -> Tensor:
    """Return blocks of positions that were channels; (N, C, Y, X)."""
    image, side = arguments.tensor(), arguments.attributes["blocksize"]
    if arguments.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(image, side)
    images, channels, height, width = image.shape
    depth = channels // side**2
    # The place within a block varies slowest among the channels: let it vary fastest.
    order = image.reshape(images, side * side, depth, height, width).transpose(1, 2)
    return F.pixel_shuffle(order.reshape(images, channels, height, width), side)


@operator("SpaceToDepth")
def space_to_depth(arguments: Arguments) -> Tensor:
    """Return the positions of each block as channels, the place within the block slowest."""
    image, side = arguments.tensor(), arguments.attributes["blocksize"]
    result = F.pixel_unshuffle(image, side)
    images, channels, height, width = result.shape
    order = result.reshape(images, image.shape[1], side * side, height, width).transpose(1, 2)
    return order.reshape(images, channels, height, width)
