"""Conv and ConvTranspose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from exactile.models.onnx.operators.margins import Margins, kernel_of, margins_of, padded
from exactile.models.onnx.registry import Arguments, Unsupported, operator

CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


def _of_dimensions(table: dict[int, Callable[..., Tensor]], image: Tensor) -> Callable[..., Tensor]:
    dims = image.ndim - 2
    if dims not in table:
        raise Unsupported(f"its input has {image.ndim} dimensions")
    return table[dims]


@operator("Conv")
def convolution(arguments: Arguments) -> Tensor:
    """Return the convolution of an image (N, C, *extent)."""
    image, weight = arguments.tensor(0), arguments.tensor(1)
    kernel = kernel_of(arguments, weight.shape[2:])
    margins = margins_of(arguments, image, kernel)
    given: dict[str, Any] = {
        "stride": kernel.stride,
        "dilation": kernel.dilation,
        "groups": arguments.get("group", 1),
    }
    run = _of_dimensions(CONVOLUTIONS, image)
    if margins.even:
        return run(image, weight, arguments.optional(2), padding=margins.low, **given)
    return run(padded(image, margins), weight, arguments.optional(2), **given)


@operator("ConvTranspose")
def transposed_convolution(arguments: Arguments) -> Tensor:
    """Return the transposed convolution of an image; margins are taken off its output."""
    image, weight = arguments.tensor(0), arguments.tensor(1)
    if arguments.get("output_shape", None):
        raise Unsupported("output_shape is fixed")
    kernel = kernel_of(arguments, weight.shape[2:])
    more = tuple(arguments.get("output_padding", [0] * len(kernel.size)))
    off = _taken_off(arguments, image, more)
    run = _of_dimensions(TRANSPOSED, image)
    result = run(
        image,
        weight,
        arguments.optional(2),
        stride=kernel.stride,
        dilation=kernel.dilation,
        groups=arguments.get("group", 1),
        output_padding=more,
        padding=off.low if off.even else 0,
    )
    if off.even:
        return result
    for axis, (low, high) in enumerate(zip(off.low, off.high, strict=True), 2):
        result = result.narrow(axis, low, result.shape[axis] - low - high)
    return result


def _taken_off(arguments: Arguments, image: Tensor, more: tuple[int, ...]) -> Margins:
    """Return what is taken off; SAME leaves `stride` positions for each of the image."""
    automatic = arguments.get("auto_pad", "NOTSET")
    kernel = kernel_of(arguments, arguments.tensor(1).shape[2:])
    if automatic in ("NOTSET", "VALID"):
        return margins_of(arguments, image, kernel)
    total = [
        reach + added - stride
        for reach, added, stride in zip(kernel.reach, more, kernel.stride, strict=True)
    ]
    if automatic not in ("SAME_UPPER", "SAME_LOWER") or min(total) < 0:
        raise Unsupported(f"auto_pad is {automatic!r} with strides {list(kernel.stride)}")
    less, rest = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return Margins(less, rest) if automatic == "SAME_UPPER" else Margins(rest, less)
