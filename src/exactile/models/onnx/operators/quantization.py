"""QuantizeLinear and DequantizeLinear of whole tensors and of channels."""

from __future__ import annotations

import torch
from torch import Tensor

from exactile.models.onnx.registry import Arguments, Unsupported, operator

WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32)
"""Types of quantised values."""


@operator("QuantizeLinear")
def quantized(arguments: Arguments) -> Tensor:
    """Return values in steps of the scale, as whole numbers around the zero point."""
    image, scale = arguments.tensor(0), _of_channels(arguments, 1)
    zero = _of_channels(arguments, 2) if arguments.has(2) else torch.zeros((), dtype=torch.uint8)
    if zero.dtype not in WHOLE:
        raise Unsupported(f"it quantises to {str(zero.dtype).removeprefix('torch.')}")
    limits = torch.iinfo(zero.dtype)
    steps = torch.round(image / scale) + zero.to(image.dtype)
    return steps.clamp(limits.min, limits.max).to(zero.dtype)


@operator("DequantizeLinear")
def dequantized(arguments: Arguments) -> Tensor:
    """Return whole numbers as the values that they stand for."""
    image, scale = arguments.tensor(0), _of_channels(arguments, 1)
    values = image.to(scale.dtype)
    if arguments.has(2):
        values = values - _of_channels(arguments, 2).to(scale.dtype)
    return values * scale


def _of_channels(arguments: Arguments, place: int) -> Tensor:
    """Return a scale or a zero point in the shape in which it fits the tensor."""
    given = arguments.tensor(place)
    if arguments.get("block_size", 0):
        raise Unsupported("it has scales for blocks")
    if given.numel() == 1:
        return given.reshape(())
    dims, axis = arguments.tensor(0).ndim, arguments.get("axis", 1)
    return given.reshape([-1 if dim == axis % dims else 1 for dim in range(dims)])
