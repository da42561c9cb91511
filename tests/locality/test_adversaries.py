"""Networks made to deceive: phases in channels, and operators whose last bits vary with the place.

None may be admitted and be wrong against one plain pass, and none may claim bits that two windows
do not have. `ADVERSARIES` in the environment raises the number of those drawn by chance.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from locality_brute import Function, single_thread  # noqa: F401
from torch import Tensor, nn

from exactile.engines.eager import make_engine
from exactile.known_order import unknown_order
from exactile.locality import NotLocal, analyze
from exactile.tiling import least_tile, plan

Map = Callable[[Tensor], Tensor]

MANY = int(os.environ.get("ADVERSARIES", "150"))


def to_depth(x: Tensor, r: int) -> Tensor:
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // r, r, w // r, r).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * r * r, h // r, w // r)


def to_space(x: Tensor, r: int) -> Tensor:
    n, c, h, w = x.shape
    parts = x.reshape(n, r, r, c // (r * r), h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // (r * r), h * r, w * r)


def focus(x: Tensor, r: int) -> Tensor:
    return torch.cat([x[:, :, i::r, j::r] for i, j in product(range(r), range(r))], 1)


def haar(x: Tensor, r: int) -> Tensor:
    a, b = x[:, :, 0::2, 0::2], x[:, :, 1::2, 1::2]
    c, d = x[:, :, 0::2, 1::2], x[:, :, 1::2, 0::2]
    return torch.cat([a + b + c + d, a - b, a - c, a - d], 1)


def rows_and_columns(x: Tensor, r: int) -> Tensor:
    x = torch.cat([x[:, :, i::r] for i in range(r)], 1)
    return torch.cat([x[:, :, :, j::r] for j in range(r)], 1)


DOWN = {
    "by views": to_depth,
    "pixel_unshuffle": F.pixel_unshuffle,
    "focus": focus,
    "rows and columns": rows_and_columns,
    "haar": haar,
    "unfold": lambda x, r: F.unfold(x, r, stride=r).view(1, -1, x.shape[2] // r, x.shape[3] // r),
}
UP = {"by views": to_space, "pixel_shuffle": F.pixel_shuffle}


def random_norm(channels: int) -> nn.Module:
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean = torch.randn(channels)
    norm.running_var = torch.rand(channels) + 0.3
    return norm


def channel_norm(channels: int) -> nn.Module:
    norm = nn.LayerNorm(channels)
    nn.init.normal_(norm.weight)
    return Function(lambda x, norm: norm(x.movedim(1, -1)).movedim(-1, 1), norm)


def with_weights(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[int], Map]:
    """Return what makes a function of a map, and of a random number for each of its channels."""

    def make(channels: int) -> Map:
        weights = torch.randn(channels).view(1, -1, 1, 1)
        return lambda x: function(x, weights)

    return make


def parts_of(channels: int) -> int:
    return 2 if channels % 2 == 0 else 3


INNER: dict[str, Callable[[int], nn.Module | Map]] = {
    "batch norm": random_norm,
    "layer norm": channel_norm,
    "scale": with_weights(torch.mul),
    "bias": with_weights(torch.add),
    "power": with_weights(lambda x, v: x.abs() ** (v.abs() + 1)),
    "depthwise": lambda c: nn.Conv2d(c, c, 3, padding=1, groups=c),
    "grouped": lambda c: nn.Conv2d(c, c, 1, groups=parts_of(c)),
    "prelu": lambda c: nn.PReLU(c) if c > 4 else random_norm(c),
    "parts": lambda c: lambda x: torch.cat([x[:, : c // 2] * 2, x[:, c // 2 :].tanh()], 1),
    "written": lambda c: lambda x: torch.cat([x[:, :1].relu(), x[:, 1:]], 1).flip(1),
    "rolled": lambda c: lambda x: x.roll(1, 1),
    "scan": lambda c: lambda x: x.cumsum(1),
    "softmax": with_weights(lambda x, v: (x * v).softmax(1)),
    "gated": lambda c: lambda x: torch.where(x[:, :1] > 0, x, -x),
    "swapped": lambda c: lambda x: torch.stack(x.chunk(parts_of(c), 1), 2).flatten(1, 2),
}


class Phases(nn.Module):
    """Pads itself to a multiple of r, has its phases in channels, treats those each for itself."""

    def __init__(self, down: str, inner: str, up: str, r: int, channels: int) -> None:
        super().__init__()
        self.down, self.up, self.r = DOWN[down], UP[up], r
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.inner = INNER[inner](channels * r * r)
        self.last = nn.Conv2d(channels, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        y = F.pad(self.first(x), [0, -w % self.r, 0, -h % self.r], mode="replicate")
        y = self.up(self.inner(self.down(y, self.r)), self.r)[:, :, :h, :w]
        found: Tensor = self.last(y.relu())
        return found


def deceives(network: nn.Module) -> str:
    """Return how an admitted network differs from one plain pass; empty where it does not."""
    network.eval()
    try:
        found = analyze(network, 1)
    except NotLocal:
        return ""
    located = found.locality
    tile = least_tile(located)
    shape = tuple(axis.pad(2 * tile + 5 * axis.alignment + 3) for axis in located.axes)
    image = np.random.default_rng(0).standard_normal((1, 1, *shape), dtype=np.float32)
    with torch.inference_mode():
        plain = network(torch.from_numpy(image))
    engine = make_engine(network, torch.device("cpu"), "float32")
    whole = engine.logits(image)
    if (whole - plain).abs().max() > 1e-4 * plain.std():
        return "the engine differs from plain PyTorch"
    claimed = not unknown_order("eager", engine.network, 1, shape)
    for size in (tile, tile + 3 * max(located.alignment)):
        tiling = plan(shape, located, size)
        for tile_ in list(tiling.tiles())[:: max(1, tiling.count // 5)]:
            window = np.ascontiguousarray(image[tile_.window.slices])
            part, expected = engine.logits(window)[tile_.crop.slices], whole[tile_.zone.slices]
            if (part - expected).abs().max() > 1e-4 * plain.std():
                return f"{tile_.zone.place} differs in {tile_.window.place}"
            if claimed and not torch.equal(part, expected):
                return f"{tile_.zone.place} has other bits in {tile_.window.place}"
    return ""


KINDS = st.builds(
    Phases,
    st.sampled_from(sorted(DOWN)),
    st.sampled_from(sorted(INNER)),
    st.sampled_from(sorted(UP)),
    st.just(2),
    st.sampled_from([1, 2]),
)


@pytest.mark.parametrize("inner", INNER)
def test_phases_in_channels_keep_their_period(inner: str) -> None:
    torch.manual_seed(0)
    network = Phases("by views", inner, "by views", 2, 1)
    assert not deceives(network)


@pytest.mark.parametrize("norm", ["batch norm", "scale", "depthwise"])
@pytest.mark.parametrize("r", [2, 3])
def test_the_period_is_found_where_every_size_is_taken(norm: str, r: int) -> None:
    torch.manual_seed(0)
    network = Phases("by views", norm, "by views", r, 1).eval()
    assert analyze(network, 1).locality.alignment == (r, r)


@pytest.mark.slow
@given(network=KINDS)
@settings(max_examples=MANY, deadline=None)
def test_phases_by_chance_deceive_nobody(network: Phases) -> None:
    assert not deceives(network)


@pytest.mark.slow
@pytest.mark.parametrize("down", [name for name in DOWN if name != "haar"])
@pytest.mark.parametrize("inner", ["batch norm", "parts", "scan", "swapped"])
def test_phases_of_three_deceive_nobody(down: str, inner: str) -> None:
    torch.manual_seed(0)
    assert not deceives(Phases(down, inner, "by views", 3, 1))


POINTWISE: dict[str, Map] = {
    **{f"power {p}": (lambda x, p=p: x.abs() ** p) for p in (1.7, 0.3, -0.5, 4, 2.5, 3)},
    **{
        name: getattr(torch, name)
        for name in (
            *("exp2", "sinh", "cosh", "asinh", "atan", "erf", "erfc", "expm1", "sin", "cos"),
            *("tan", "sinc", "tanh", "sigmoid", "i0", "square", "exp"),
        )
    },
    "atanh": lambda x: torch.atanh(x.tanh() * 0.9),
    "log1p": lambda x: torch.log1p(x.abs()),
    "acosh": lambda x: torch.acosh(x.abs() + 1),
    "logit": lambda x: torch.logit(x.sigmoid()),
    "lgamma": lambda x: torch.lgamma(x.abs() + 1),
    "digamma": lambda x: torch.digamma(x.abs() + 1),
    "logaddexp": lambda x: torch.logaddexp(x, -x),
    "logaddexp2": lambda x: torch.logaddexp2(x, -x),
    "logsumexp": lambda x: x.logsumexp(1, keepdim=True) - x,
    "atan2": lambda x: torch.atan2(x, x.roll(1, 1)),
    "hypot": lambda x: torch.hypot(x, x.roll(1, 1)),
    "2 to the x": lambda x: 2.0 ** x.clamp(-9, 9),
    "x to the y": lambda x: x.abs() ** x.tanh(),
    "in place": lambda x: x.abs().pow_(1.7),
    "cropped": lambda x: F.pad(x, [0, 3, 0, 3])[:, :, :-3, :-3].abs() ** 1.7,
    "bessel": torch.special.bessel_j0,
    "in double": lambda x: (x.double().abs() ** 1.7).float(),
    "deviation": lambda x: x / (x.std(1, keepdim=True) + 1),
    "norm": lambda x: x / (x.norm(dim=1, keepdim=True) + 1),
    "scan": lambda x: x.cumsum(1),
    "soft": lambda x: x.softmax(1),
    "logsigmoid": F.logsigmoid,
    "mish": F.mish,
    "linear": lambda x: (x.movedim(1, -1) @ torch.eye(4)).movedim(-1, 1),
}


@pytest.mark.parametrize("name", POINTWISE)
def test_bits_are_claimed_only_where_windows_have_them(name: str) -> None:
    torch.manual_seed(0)
    first, last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)
    network = Function(lambda x, a, b: b(POINTWISE[name](a(x) * 2)), first, last)
    assert not deceives(network)


@pytest.mark.parametrize("name", ["bessel", "in double", "deviation", "logsumexp"])
def test_what_nobody_measured_claims_no_bits(name: str) -> None:
    network = Function(lambda x: POINTWISE[name](x))
    assert unknown_order("eager", network, 2, (9, 9))


@pytest.mark.parametrize("name", ["power 1.7", "exp2", "soft", "logaddexp", "x to the y"])
def test_what_was_measured_claims_bits_on_eager_pytorch(name: str) -> None:
    assert not unknown_order("eager", Function(lambda x: POINTWISE[name](x)), 2, (9, 9))


def test_a_dilated_convolution_claims_no_bits_on_openvino() -> None:
    plain, dilated = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=2, dilation=2)
    assert not unknown_order("openvino", plain, 1, (32, 32))
    assert unknown_order("openvino", dilated, 1, (32, 32)) == ("aten.convolution",)
    assert not unknown_order("eager", dilated, 1, (32, 32))


def test_fibres_that_change_places_are_another_function() -> None:
    """Channels and columns are exchanged from a row on, which no window may move."""

    def exchanged(x: Tensor) -> Tensor:
        blocks = x.expand(-1, 4, -1, -1).cumsum(1).unflatten(3, (-1, 4))
        other = blocks.transpose(1, 4)
        return torch.cat([blocks[:, :, :40], other[:, :, 40:]], 2).flatten(3)

    assert analyze(Function(exchanged), 1).locality.halo[0].low >= 40
