"""Random small networks: tiles at the traced halo are exactly the whole image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from locality_brute import check_tiles, image, single_thread, tiled, whole_numbers  # noqa: F401
from locality_networks import UNet
from torch import nn

from exactile.geometry import Halo, Locality
from exactile.locality import analyze


@dataclass(frozen=True)
class Level:
    """One level of a random encoder and decoder."""

    kernel: int
    dilation: int
    mode: str
    down: str
    up: str
    factor: int


LEVELS = st.builds(
    Level,
    kernel=st.sampled_from([1, 2, 3, 5]),
    dilation=st.sampled_from([1, 1, 2]),
    mode=st.sampled_from(["zeros", "zeros", "reflect", "replicate"]),
    down=st.sampled_from(["max", "max3", "average", "stride", "slice", "unshuffle"]),
    up=st.sampled_from(["transposed", "transposed3", "nearest", "bilinear", "size", "shuffle"]),
    factor=st.sampled_from([2, 2, 3]),
)


def same(kernel: int, dilation: int, mode: str) -> nn.Module:
    """A convolution that keeps the size; an even kernel reads one more on the high side."""
    if kernel % 2 == 0:
        return nn.Sequential(
            nn.ZeroPad2d((0, dilation, 0, dilation)), nn.Conv2d(1, 1, kernel, dilation=dilation)
        )
    return nn.Conv2d(
        1, 1, kernel, padding=kernel // 2 * dilation, dilation=dilation, padding_mode=mode
    )


class Ladder(nn.Module):
    """Goes down and up level by level, with a skip at each."""

    def __init__(self, levels: list[Level]) -> None:
        super().__init__()
        self.levels = levels
        self.convs = nn.ModuleList(
            same(level.kernel, level.dilation, level.mode) for level in levels
        )
        self.strided = nn.ModuleList(
            nn.Conv2d(1, 1, 3, level.factor, padding=1) for level in levels
        )
        self.unshuffled = nn.ModuleList(nn.Conv2d(level.factor**2, 1, 1) for level in levels)
        self.transposed = nn.ModuleList(
            nn.ConvTranspose2d(1, 1, level.factor, level.factor) for level in levels
        )
        self.transposed3 = nn.ModuleList(
            nn.ConvTranspose2d(1, 1, 3, level.factor, padding=1, output_padding=level.factor - 1)
            for level in levels
        )
        self.shuffled = nn.ModuleList(
            nn.Conv2d(1, level.factor**2, 3, padding=1) for level in levels
        )

    def lower(self, x: torch.Tensor, place: int) -> torch.Tensor:
        level = self.levels[place]
        if level.down == "max":
            return F.max_pool2d(x, level.factor)
        if level.down == "max3":
            return F.max_pool2d(x, 3, level.factor, padding=1)
        if level.down == "average":
            return F.avg_pool2d(x, level.factor, divisor_override=1)
        if level.down == "stride":
            return self.strided[place](x)
        if level.down == "slice":
            return x[:, :, 1 :: level.factor, :: level.factor]
        return self.unshuffled[place](F.pixel_unshuffle(x, level.factor))

    def higher(self, x: torch.Tensor, skip: torch.Tensor, place: int) -> torch.Tensor:
        level = self.levels[place]
        if level.up == "transposed":
            return self.transposed[place](x)
        if level.up == "transposed3":
            return self.transposed3[place](x)
        if level.up == "nearest":
            return F.interpolate(x, scale_factor=level.factor)
        if level.up == "bilinear" and level.factor == 2:
            return F.interpolate(x, scale_factor=2, mode="bilinear") * 16
        if level.up == "shuffle":
            return F.pixel_shuffle(self.shuffled[place](x), level.factor)
        return F.interpolate(x, size=skip.shape[2:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for place, conv in enumerate(self.convs):
            x = F.relu(conv(x))
            skips.append(x)
            x = self.lower(x, place)
        for place in reversed(range(len(self.levels))):
            skip = skips.pop()
            x = self.higher(x, skip, place) + skip
        return x


@settings(deadline=None, derandomize=True, max_examples=40)
@given(levels=st.lists(LEVELS, min_size=1, max_size=2), seed=st.integers(0, 99))
def test_tiles_of_a_random_ladder_are_exact(levels: list[Level], seed: int) -> None:
    module = whole_numbers(Ladder(levels), seed)
    found = analyze(module, 1)
    factors = 1
    for level in levels:
        factors *= level.factor
    assert found.locality.alignment in {(f, f) for f in range(1, factors + 1) if factors % f == 0}
    check_tiles(module, found, 1, periods=3)


@pytest.mark.parametrize(("depth", "count"), [(1, 1), (1, 3), (2, 1)])
def test_tiles_of_a_unet_are_exact_and_not_without_a_halo(depth: int, count: int) -> None:
    module = whole_numbers(UNet(depth, count, width=1, classes=1))
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            # Without eps the map is x -> x exactly, so that all numbers stay whole.
            part.eps = 0.0
            nn.init.ones_(part.weight)
    found = analyze(module, 1)
    check_tiles(module, found, 1)
    axis = found.locality.axes[0]
    less = replace(found, locality=Locality.isotropic(axis.alignment, Halo(0, 0)))
    whole = image(1, (6 * axis.alignment + axis.halo.total,) * 2)
    with torch.no_grad():
        assert not torch.equal(tiled(module, less, whole), module(whole))


@settings(deadline=None, derandomize=True, max_examples=15)
@given(
    kernels=st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=3),
    stride=st.sampled_from([1, 2]),
)
def test_tiles_of_valid_and_strided_convolutions_are_exact(kernels: list[int], stride: int) -> None:
    layers = [nn.Conv2d(1, 1, kernel) for kernel in kernels]
    module = whole_numbers(nn.Sequential(*layers, nn.Conv2d(1, 1, 2, stride)))
    check_tiles(module, analyze(module, 1), 1)


@settings(deadline=None, derandomize=True, max_examples=6)
@given(kernel=st.sampled_from([1, 3]), factor=st.sampled_from([2, 3]))
def test_tiles_of_a_volume_are_exact(kernel: int, factor: int) -> None:
    module = whole_numbers(
        nn.Sequential(
            nn.Conv3d(1, 1, kernel, padding=kernel // 2),
            nn.MaxPool3d((1, factor, factor)),
            nn.ConvTranspose3d(1, 1, (1, factor, factor), (1, factor, factor)),
        )
    )
    check_tiles(module, analyze(module, 1, 3), 1, periods=3)
