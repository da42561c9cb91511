"""The traced halo of the architectures in use, against what NaN really reaches."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import pytest
import torch
from locality_architectures import ARCHITECTURES
from locality_brute import single_thread, tiled  # noqa: F401
from torch import nn

from exactile.geometry import Halo
from exactile.locality import Analysis, analyze

LARGER = {"stride 3, bilinear": (0, 3), "pyramid of fixed pools": (0, 12)}
"""Where tracing claims more than NaN reaches: pixels more on the low and on the high side.

Both resample linearly by 3 or 6. The kernels compute the place of a position as a multiple of 1/3
in floating point, which rounds, so the rule adds one neighbour (`exactile.locality.upsampling`).
"""


def positive(module: nn.Module) -> nn.Module:
    """Give every weight a positive value, in float64: what reaches a position always shows."""
    generator = torch.Generator().manual_seed(0)
    module = module.double().eval()
    with torch.no_grad():
        for weight in module.parameters():
            fan = max(1, weight[0].numel())
            weight.copy_((torch.rand(weight.shape, generator=generator) + 0.5) / fan)
    return module


def image(extent: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand((1, 1, *extent), generator=generator, dtype=torch.float64) + 0.5


def first_clean(reached: Callable[[int], bool], most: int) -> int:
    """Return the least distance that is not reached, nor any further one up to `most`."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if reached(middle):
            low = middle + 1
        else:
            high = middle
    return low


def brute_force(module: nn.Module, found: Analysis, axis: int) -> Halo:
    """Return how far beyond an aligned zone inside the image NaN reaches it, on both sides."""
    axes = found.locality.axes
    extent = tuple(
        3 * a.alignment + a.halo.total if other == axis else max(a.least, 2 * a.alignment)
        for other, a in enumerate(axes)
    )
    located, dim = axes[axis], 2 + axis
    start = located.halo.low + located.alignment
    stop = start + located.alignment
    first = int(start * located.scale)

    def reached(kept: slice) -> bool:
        poisoned = torch.full((1, 1, *extent), torch.nan, dtype=torch.float64)
        at = (slice(None),) * dim + (kept,)
        poisoned[at] = image(extent)[at]
        with torch.no_grad():
            zone = module(poisoned).narrow(dim, first, located.step)
        return bool(zone.isnan().any())

    return Halo(
        first_clean(lambda by: reached(slice(start - by, None)), start),
        first_clean(lambda by: reached(slice(None, stop + by)), extent[axis] - stop),
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_traced_halo_is_what_nan_reaches(name: str) -> None:
    module = positive(ARCHITECTURES[name]())
    dims = 3 if any(isinstance(part, nn.Conv3d) for part in module.modules()) else 2
    found = analyze(module, 1, dims)
    for axis in range(dims):
        if axis > 0 and found.locality.axes[axis] == found.locality.axes[axis - 1]:
            continue
        real, claimed = brute_force(module, found, axis), found.needed[axis]
        low, high = LARGER.get(name, (0, 0))
        assert (claimed.low - low, claimed.high - high) == (real.low, real.high), (claimed, real)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_tiles_of_an_architecture_are_its_whole_image(name: str) -> None:
    """To the rounding of float64: sums of other shapes may have another order."""
    module = positive(ARCHITECTURES[name]())
    dims = 3 if any(isinstance(part, nn.Conv3d) for part in module.modules()) else 2
    found = analyze(module, 1, dims)
    extent = tuple(
        ceil(max(a.least, 2 * a.alignment + a.halo.total) / a.alignment + 1) * a.alignment
        if axis == 0
        else max(a.least, 2 * a.alignment)
        for axis, a in enumerate(found.locality.axes)
    )
    whole = image(extent)
    with torch.no_grad():
        expected = module(whole)
        assert torch.allclose(tiled(module, found, whole), expected, rtol=1e-12, atol=0)
