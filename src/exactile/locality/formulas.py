"""The formulas of Majurski and Bajcsy (2021), for comparison with what tracing shows.

    tile = zone + 2 * radius                                             (`tile_side`)
    F = side of the input / side of the smallest feature map             (`alignment`)
    radius = sum over the convolutions of the longest path of
             2^level * floor(k / 2), equation 2                          (`radius_along`)
    radius of a U-Net = floor(k / 2) * n * (3 * 2^depth - 2)             (`unet.formula_radius`)

Radius and zone are rounded up to F. The radius counts neither pooling nor up-sampling, which reach
further, so it is NOT sufficient in general: nothing is ever tiled by it. `formula_radius_of` takes
equation 2 from the operators that a network runs, whatever its architecture.

The equation is silent on transposed convolutions. Here they count with (k - stride) // 2 positions
of their output: what they spread beyond their own cell on either side. That is 0 for the 2 x 2 and
3 x 3 ones of stride 2 that the papers leave out, and 16 pixels for the 64 x 64 one of stride 32 in
FCN-32s, which makes the 202 that they print for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import ceil
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from exactile.errors import ModelError
from exactile.geometry import ceil_to
from exactile.locality.dispatch import bind
from exactile.locality.dry_run import without_data
from exactile.locality.registry import per_axis
from exactile.locality.run import RUN_ERRORS
from exactile.locality.search import TRIAL_EXTENTS

LARGE_EXTENT = 80_640
"""2^8 * 3^2 * 5 * 7 pixels: the strides of most networks divide it, and next to it the pixels that
valid convolutions take away are few enough to leave the ratios of sides clear."""

LARGEST_PART = 4
"""Ratios of sides are taken as fractions of halves, thirds or quarters."""

CONVOLUTIONS = (torch.ops.aten.convolution, torch.ops.aten._convolution)
"""As eager modules and exported programs, and as TorchScript calls them."""


def tile_side(zone: int, radius: int) -> int:
    """Return the side of the tile that is run for a zone of side `zone`, in pixels.

    >>> tile_side(zone=320, radius=96)
    512
    """
    return zone + 2 * radius


def alignment(side: int, smallest: int) -> int:
    """Return F, from the side of the input and that of the smallest feature map.

    >>> alignment(512, 32)
    16
    """
    return side // smallest


def radius_along(path: Iterable[tuple[int, int]]) -> int:
    """Return the radius, in pixels, of a path of convolutions (level, kernel size): equation 2.

    >>> radius_along([(0, 3), (0, 3), (1, 3), (1, 3), (0, 3), (0, 3)])
    8
    """
    return sum((1 << level) * (kernel_size // 2) for level, kernel_size in path)


def rounded(radius: int, to: int) -> int:
    """Return a radius or the side of a zone as the papers use it: rounded up to a multiple of F.

    >>> rounded(92, 16)
    96
    """
    return ceil_to(radius, to)


def formula_radius_of(module: nn.Module, channels: int, spatial_dims: int = 2) -> tuple[int, ...]:
    """Return equation 2 for any network, in pixels by axis in array order.

    The network, which takes (1, channels, *extent), runs once on tensors without data. Its weights
    and its training flags are left as they were. The level of a convolution is that of its input:
    how many pixels of the image there are for each of its positions.

    Raises `ModelError` where the network cannot run.
    """
    failures = []
    for extent in (LARGE_EXTENT, *TRIAL_EXTENTS):
        try:
            radius = _longest_path(module, channels, (extent,) * spatial_dims)
        except RUN_ERRORS as error:
            failures.append(error)
        else:
            return tuple(ceil(axis) for axis in radius)
    raise ModelError(
        f"the network does not run on {channels} channel(s) in {spatial_dims} dimensions at any "
        f"extent tried; at the first it says: {failures[0]}"
    ) from failures[0]


def _longest_path(
    module: nn.Module, channels: int, extent: tuple[int, ...]
) -> tuple[Fraction, ...]:
    paths = LongestPath(extent)
    with without_data(module, channels, extent) as image, paths:
        paths.sums[image] = (Fraction(0),) * len(extent)
        output = torch.func.functionalize(module)(image)
    return paths.longest([leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)])


class LongestPath(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Carries beside every tensor the longest sum of equation 2 up to it, on each axis."""

    def __init__(self, extent: tuple[int, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.extent = extent
        self.sums: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operator and note how far its outputs reach by the formula."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        reached = self.longest(inputs)
        if func.overloadpacket in CONVOLUTIONS:
            added = self.added(bind(func, args, kwargs), result)
            reached = tuple(a + b for a, b in zip(reached, added, strict=True))
        for output in tree_leaves(result):
            if isinstance(output, torch.Tensor):
                self.sums[output] = reached
        return result

    def longest(self, tensors: Sequence[torch.Tensor]) -> tuple[Fraction, ...]:
        """Return the largest sum of `tensors` on each axis; weights and constants have none."""
        known = [self.sums[tensor] for tensor in tensors if tensor in self.sums]
        none = (Fraction(0),) * len(self.extent)
        return tuple(max(axis) for axis in zip(none, *known, strict=True))

    def added(self, arguments: dict[str, Any], output: torch.Tensor) -> tuple[Fraction, ...]:
        """Return what one convolution adds, in pixels; it works on the last axes."""
        kernel = tuple(arguments["weight"].shape[2:])
        stride = per_axis(arguments["stride"], len(kernel))
        dilation = per_axis(arguments["dilation"], len(kernel), 1)
        source = output if arguments["transposed"] else arguments["input"]
        added = [Fraction(0)] * len(self.extent)
        for axis in range(1, min(len(kernel), len(self.extent)) + 1):
            reach = (kernel[-axis] - 1) * dilation[-axis] + 1
            positions = (reach - stride[-axis]) // 2 if arguments["transposed"] else reach // 2
            pixels = pixels_for_each(self.extent[-axis], source.shape[-axis])
            added[-axis] = max(0, positions) * pixels
        return tuple(added)


def pixels_for_each(extent: int, side: int) -> Fraction:
    """Return how many pixels of an image there are for each position of a feature map.

    Valid convolutions leave sides a little short; that is rounded away.

    >>> pixels_for_each(80_640, 2_518)
    Fraction(32, 1)
    """
    if side > extent:
        return 1 / pixels_for_each(side, extent)
    return Fraction(extent, side).limit_denominator(LARGEST_PART)
