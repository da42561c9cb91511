"""A locality is confirmed at the sizes of a plan: a window's, and the whole image's."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import pytest
import torch
import torch.nn.functional as F
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
    with pytest.raises(NotLocal, match="looks at the image's size"):
        confirm(module, 1, found, (512, 512), (30_001, 30_001))


def padded_by_the_other_axis(x: Tensor, conv: nn.Module) -> Tensor:
    pad = 1 + x.shape[3] // 200 * 2
    return conv(F.pad(x, [1, 1, pad, 4 - pad]))[:, :, 1:-1]


def squared(x: Tensor, conv: nn.Module) -> Tensor:
    rows, columns = x.shape[2:]
    side = max(rows, columns, 300)
    return conv(F.pad(x, [0, side - columns, 0, side - rows]))[:, :, :rows, :columns]


AT_OTHER_SIZES: dict[str, Callable[..., Tensor]] = {
    "another operator": lambda x, conv: conv(x).sigmoid() if x.shape[2] > 300 else conv(x).tanh(),
    "another number": lambda x, conv: conv(x) * (2 if x.shape[3] > 300 else 1),
    "another type": lambda x, conv: conv(x).to(
        torch.float64 if x.numel() > 90_000 else torch.float32
    ),
    "sides that are alike": lambda x, conv: conv(x).relu() if x.shape[2] == x.shape[3] else conv(x),
    "one operator more": lambda x, conv: conv(x).exp() if x.shape[2] > 300 else conv(x),
    "a pad by the other side": padded_by_the_other_axis,
    "a pad to a square": squared,
    "a loop": lambda x, conv: reduce(lambda y, _: conv(y), range(1 + x.shape[2] // 300), x),
    "a dilation": lambda x, conv: F.conv2d(x, conv.weight, None, 1, 2, 1 + (x.shape[2] < 300)),
    "channels repeated": lambda x, conv: (
        conv(x).repeat(1, 1 + x.shape[2] // 300, 1, 1).sum(1, True)
    ),
    "channels spread": lambda x, conv: (
        conv(x).expand(1, 1 + x.shape[3] // 300, -1, -1).sum(1, True)
    ),
    "copies": lambda x, conv: torch.cat([conv(x)] * (1 + x.shape[2] // 300), 1).sum(1, True),
    "rounding": lambda x, conv: conv(x).round(decimals=1 + (x.shape[2] > 300)),
}


@pytest.mark.parametrize("name", AT_OTHER_SIZES)
def test_what_a_network_does_at_the_sizes_of_a_plan_is_compared(name: str) -> None:
    module = Function(AT_OTHER_SIZES[name], nn.Conv2d(1, 1, 3, padding=1))
    with pytest.raises(NotLocal):
        confirm(module, 1, analyze(module, 1), (96, 96), (413, 309))


def padded_to_a_multiple(x: Tensor, conv: nn.Module) -> Tensor:
    rows, columns = x.shape[2:]
    padded = F.pad(x, (0, -columns % 16, 0, -rows % 16), mode="replicate")
    pooled = F.interpolate(F.max_pool2d(conv(padded), 4), size=padded.shape[2:])
    return pooled[:, :, :rows, :columns]


def by_tokens(x: Tensor, conv: nn.Module) -> Tensor:
    rows, columns = x.shape[2:]
    tokens = F.layer_norm(conv(x).expand(-1, 2, -1, -1).flatten(2).transpose(1, 2), (2,))
    return conv(tokens.transpose(1, 2).unflatten(2, (rows, columns)).sum(1, keepdim=True))


HONEST: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
    "pad to a multiple": (padded_to_a_multiple, {"padding": 1}),
    "tokens": (by_tokens, {"padding": 1}),
    "reflection": (lambda x, conv: conv(x), {"padding": 1, "padding_mode": "reflect"}),
    "repetition": (lambda x, conv: conv(x), {"padding": 1, "padding_mode": "replicate"}),
}


@pytest.mark.parametrize("name", HONEST)
def test_sizes_that_only_say_where_values_lie_are_no_difference(name: str) -> None:
    function, options = HONEST[name]
    module = Function(function, nn.Conv2d(1, 1, 3, **options))
    confirm(module, 1, analyze(module, 1), (96, 96), (416, 304))


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


def test_multiples_of_the_period_are_not_treated_otherwise_than_the_image() -> None:
    """Padded to a multiple of 2 the image would never be seen at its own, odd size."""

    def run(x: Tensor, conv: nn.Module) -> Tensor:
        y = F.interpolate(F.max_pool2d(conv(x), 2, ceil_mode=True), scale_factor=2)
        y = y[:, :, : x.shape[2], : x.shape[3]]
        return y * 2 if x.shape[2] % 2 else y

    module = Function(run, nn.Conv2d(1, 1, 3, padding=1))
    found = analyze(module, 1)
    assert found.locality.alignment == (2, 2)
    confirm(module, 1, found, (96, 96), (414, 298), (414, 297))
    with pytest.raises(NotLocal, match="looks at the image's size"):
        confirm(module, 1, found, (96, 96), (414, 298), (413, 298))


def test_a_pad_that_only_the_image_itself_needs_is_no_difference() -> None:
    def run(x: Tensor, conv: nn.Module) -> Tensor:
        y = F.interpolate(F.max_pool2d(conv(x), 2), scale_factor=2)
        if y.shape != x.shape:
            y = F.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
        return conv(y)

    module = Function(run, nn.Conv2d(1, 1, 3, padding=1))
    confirm(module, 1, analyze(module, 1), (96, 96), (414, 298), (413, 297))
