"""A locality is confirmed at the sizes of a plan: a window's, and the whole image's."""

from __future__ import annotations

import pytest
import torch
from locality_brute import Function
from locality_networks import UNet
from torch import Tensor, nn

from exactile.locality import NotLocal, analyze, confirm


def by_size(most: int, axis: int) -> nn.Module:
    """A network with another kernel for images of more than `most` pixels along an axis."""
    small, large = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 5, padding=2)

    def run(x: Tensor, *parts: nn.Module) -> Tensor:
        result: Tensor = parts[int(x.shape[axis] > most)](x)
        return result

    return Function(run, small, large)


def test_a_unet_is_the_same_at_the_size_of_a_slide() -> None:
    module = UNet(4, 2)
    confirm(module, 1, analyze(module, 1), (1216, 1216), (50_000, 100_000))


@pytest.mark.parametrize("axis", [2, 3])
def test_another_kernel_for_large_images_is_found(axis: int) -> None:
    module = by_size(30_000, axis)
    found = analyze(module, 1)
    confirm(module, 1, found, (512, 512), (30_000, 30_000))
    with pytest.raises(NotLocal, match="does something else with"):
        confirm(module, 1, found, (512, 512), (30_001, 30_001))


def test_a_network_that_fails_on_large_images_is_refused() -> None:
    def run(x: Tensor) -> Tensor:
        if x.shape[2] > 30_000:
            raise ValueError("too high")
        return torch.relu(x)

    module = Function(run)
    with pytest.raises(NotLocal, match=r"does not run on 40000 x 512 px .*too high"):
        confirm(module, 1, analyze(module, 1), (512, 512), (40_000, 40_000))


def test_crops_that_are_counted_from_the_end_are_no_difference() -> None:
    module = Function(lambda x, conv: conv(x)[:, :, 4:, 2:-2], nn.Conv2d(1, 1, 3, padding=1))
    found = analyze(module, 1)
    confirm(module, 1, found, (160, 160), (353, 421))
    assert [axis.halo.high for axis in found.locality.axes] == [5, 4]
