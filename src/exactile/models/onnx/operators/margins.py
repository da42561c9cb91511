"""The padding of convolutions and poolings, as ONNX states it for each side of each axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from exactile.models.onnx.registry import Arguments, Unsupported


@dataclass(frozen=True, slots=True)
class Kernel:
    """The geometry of a kernel that moves over the spatial axes, in their order."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """Positions from the first to the last that it reads at once."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.size, self.dilation, strict=True))


@dataclass(frozen=True, slots=True)
class Margins:
    """Positions that are added on the low and the high side of each spatial axis."""

    low: tuple[int, ...]
    high: tuple[int, ...]

    @property
    def even(self) -> bool:
        """Whether both sides of each axis get the same."""
        return self.low == self.high


def kernel_of(arguments: Arguments, size: Sequence[int]) -> Kernel:
    """Return the kernel of a node whose kernel has `size`."""
    ones = [1] * len(size)
    return Kernel(
        tuple(size),
        tuple(arguments.get("strides", ones)),
        tuple(arguments.get("dilations", ones)),
    )


def margins_of(arguments: Arguments, image: Tensor, kernel: Kernel) -> Margins:
    """Return the margins that a node asks for, or that follow from the image's size.

    Raises:
        Unsupported: if `auto_pad` is not known.
    """
    dims = len(kernel.size)
    automatic = arguments.get("auto_pad", "NOTSET")
    if automatic == "NOTSET":
        pads = tuple(arguments.get("pads", [0] * (2 * dims)))
        return Margins(pads[:dims], pads[dims:])
    if automatic == "VALID":
        return Margins((0,) * dims, (0,) * dims)
    if automatic not in ("SAME_UPPER", "SAME_LOWER"):
        raise Unsupported(f"auto_pad is {automatic!r}")
    low, high = [], []
    for side, reach, stride in zip(image.shape[2:], kernel.reach, kernel.stride, strict=True):
        # As many outputs as steps of the stride begin within the image.
        rest = 0 if stride == 1 else side % stride
        total = max(reach - (rest or stride), 0)
        less, more = total // 2, total - total // 2
        low.append(less if automatic == "SAME_UPPER" else more)
        high.append(more if automatic == "SAME_UPPER" else less)
    return Margins(tuple(low), tuple(high))


def padded(image: Tensor, margins: Margins, value: float = 0.0) -> Tensor:
    """Return the image with its margins, which hold `value`."""
    sides = [
        side
        for low, high in zip(reversed(margins.low), reversed(margins.high), strict=True)
        for side in (low, high)
    ]
    return F.pad(image, sides, value=value) if any(sides) else image
