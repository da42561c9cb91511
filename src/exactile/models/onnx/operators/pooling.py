"""Poolings over windows and over the whole extent."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import torch
import torch.nn.functional as F
from torch import Tensor

from exactile.models.onnx.operators.margins import Kernel, Margins, kernel_of, margins_of, padded
from exactile.models.onnx.registry import Arguments, Unsupported, operator

LARGEST: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _native(margins: Margins, kernel: Kernel) -> bool:
    """Whether torch's own padding does: even, and of half a kernel at most."""
    return margins.even and all(
        2 * low <= size for low, size in zip(margins.low, kernel.size, strict=True)
    )


@operator("MaxPool")
def largest(arguments: Arguments) -> Tensor:
    """Return the largest values in windows; margins do not count."""
    if arguments.outputs > 1:
        raise Unsupported("its indices are asked for")
    image = arguments.tensor()
    kernel = kernel_of(arguments, arguments.attributes["kernel_shape"])
    margins = margins_of(arguments, image, kernel)
    native = _native(margins, kernel)
    return LARGEST[len(kernel.size)](
        image if native else padded(image, margins, -inf),
        kernel.size,
        kernel.stride,
        margins.low if native else 0,
        kernel.dilation,
        bool(arguments.get("ceil_mode", 0)),
    )


@operator("AveragePool")
def average(arguments: Arguments) -> Tensor:
    """Return the means of windows, in which margins count or not."""
    image = arguments.tensor()
    kernel = kernel_of(arguments, arguments.attributes["kernel_shape"])
    if any(step != 1 for step in kernel.dilation):
        raise Unsupported(f"dilations are {list(kernel.dilation)}")
    margins = margins_of(arguments, image, kernel)
    counted, ceiled = (
        bool(arguments.get("count_include_pad", 0)),
        bool(arguments.get("ceil_mode", 0)),
    )
    pool = AVERAGE[len(kernel.size)]
    if _native(margins, kernel):
        return pool(image, kernel.size, kernel.stride, margins.low, ceiled, counted)
    if not counted and not ceiled and _within_even(margins, kernel):
        means = pool(image, kernel.size, kernel.stride, margins.low, False, False)
        return _without_last(means, image, margins, kernel)
    means = pool(padded(image, margins), kernel.size, kernel.stride, 0, ceiled)
    if counted:
        return means
    # The share of each window that lies on the image; its mean over that share alone.
    share = pool(padded(torch.ones_like(image), margins), kernel.size, kernel.stride, 0, ceiled)
    return means / share


def _within_even(margins: Margins, kernel: Kernel) -> bool:
    """Whether margins as even as the lower ones hold them, and are of half a kernel at most."""
    return all(
        high <= low <= size // 2
        for low, high, size in zip(margins.low, margins.high, kernel.size, strict=True)
    )


def _without_last(result: Tensor, image: Tensor, margins: Margins, kernel: Kernel) -> Tensor:
    """Return a pooling over even margins without the windows that end beyond the higher ones."""
    for axis, side in enumerate(image.shape[2:]):
        steps = side + margins.low[axis] + margins.high[axis] - kernel.size[axis]
        result = result.narrow(axis + 2, 0, steps // kernel.stride[axis] + 1)
    return result


@operator("GlobalAveragePool")
def mean_of_all(arguments: Arguments) -> Tensor:
    """Return the mean of each channel over the whole extent."""
    image = arguments.tensor()
    return image.mean(tuple(range(2, image.ndim)), keepdim=True)


@operator("GlobalMaxPool")
def largest_of_all(arguments: Arguments) -> Tensor:
    """Return the largest value of each channel."""
    image = arguments.tensor()
    return image.amax(tuple(range(2, image.ndim)), keepdim=True)
