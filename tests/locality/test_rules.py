"""One suite for every operator rule: traced hulls and marks against brute force on tiny images."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from locality_brute import Function, check_hulls, check_marks, single_thread, whole_numbers  # noqa: F401
from torch import nn

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX_POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE_POOLS = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}

DIMS = st.sampled_from([1, 2, 2, 3])


def check(module: nn.Module, channels: int, side: int, dims: int, *, tight: bool = True) -> None:
    """Compare along the first and the last axis; the other axes are shorter."""
    module = whole_numbers(module)
    for axis in {0, dims - 1}:
        extent = tuple(side if other == axis else max(6, side // 2) for other in range(dims))
        check_hulls(module, channels, extent, axis, tight=tight)
        check_marks(module, channels, extent, axis)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    dims=DIMS,
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    padding=st.integers(0, 3),
    grouped=st.booleans(),
    mode=st.sampled_from(["zeros", "reflect", "replicate"]),
)
def test_a_convolution_reads_its_taps_and_no_others(
    dims: int, kernel: int, stride: int, dilation: int, padding: int, grouped: bool, mode: str
) -> None:
    side = 12 if dims < 3 else 9
    assume((kernel - 1) * dilation + 1 <= max(6, side // 2) + 2 * padding)
    # A stride that skips input leaves columns unread, but never a gap inside one window's hull.
    module = CONVOLUTIONS[dims](
        2, 2, kernel, stride, padding, dilation, 2 if grouped else 1, padding_mode=mode
    )
    check(module, 2, side, dims)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    dims=DIMS,
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.integers(0, 2),
    output_padding=st.integers(0, 2),
    grouped=st.booleans(),
)
def test_a_transposed_convolution_reads_what_reaches_it(
    dims: int,
    kernel: int,
    stride: int,
    dilation: int,
    padding: int,
    output_padding: int,
    grouped: bool,
) -> None:
    assume(output_padding < max(stride, dilation))
    assume((kernel - 1) * dilation - 2 * padding + 1 + output_padding > 0)
    module = TRANSPOSED[dims](
        2, 2, kernel, stride, padding, output_padding, 2 if grouped else 1, dilation=dilation
    )
    check(module, 2, 8, dims)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    dims=DIMS,
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    ceil_mode=st.booleans(),
)
def test_a_max_pool_reads_its_window(
    dims: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> None:
    assume(padding <= kernel // 2)
    assume((kernel - 1) * dilation + 1 <= 6)
    module = MAX_POOLS[dims](kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    check(module, 1, 11 if dims < 3 else 8, dims)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    dims=DIMS,
    kernel=st.sampled_from([1, 2, 4]),
    stride=st.integers(1, 4),
    padding=st.integers(0, 2),
    ceil_mode=st.booleans(),
    counted=st.booleans(),
)
def test_an_average_pool_reads_its_window(
    dims: int, kernel: int, stride: int, padding: int, ceil_mode: bool, counted: bool
) -> None:
    assume(padding <= kernel // 2)
    module = AVERAGE_POOLS[dims](kernel, stride, padding, ceil_mode, counted)
    check(module, 1, 11 if dims < 3 else 8, dims)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    mode=st.sampled_from(
        ["nearest", "nearest-exact", "bilinear", "bicubic", "trilinear", "linear"]
    ),
    scale=st.sampled_from([2, 4, 0.5, 0.25, 1.5, 3]),
)
def test_upsampling_reads_its_neighbours(mode: str, scale: float) -> None:
    dims = {"trilinear": 3, "linear": 1}.get(mode, 2)
    # Another scale than a power of two gets a position of slack, for the rounding of its weights.
    tight = scale in (2, 4, 0.5, 0.25) and mode != "bicubic"
    assume(tight or mode.startswith("nearest") or dims < 3)
    module = Function(lambda x: F.interpolate(x, scale_factor=scale, mode=mode))
    module.double().eval()
    for axis in range(dims):
        extent = tuple(12 if other == axis else 4 for other in range(dims))
        check_hulls(module, 1, extent, axis, tight=tight)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [2, 1, 0.5, 0.25, 1.5, 1 / 3, 2 / 3])
def test_antialiased_resizing_reads_what_its_weights_reach(mode: str, scale: float) -> None:
    module = Function(lambda x: F.interpolate(x, scale_factor=scale, mode=mode, antialias=True))
    module.double().eval()
    for axis in range(2):
        extent = tuple(24 if other == axis else 12 for other in range(2))
        check_hulls(module, 1, extent, axis, tight=False)


@settings(deadline=None, derandomize=True, max_examples=12)
@given(dims=st.sampled_from([1, 2, 3]), kernel=st.integers(1, 3), stride=st.integers(1, 3))
def test_max_unpooling_reads_every_window_that_holds_the_position(
    dims: int, kernel: int, stride: int
) -> None:
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[dims]
    unpool = {1: F.max_unpool1d, 2: F.max_unpool2d, 3: F.max_unpool3d}[dims]

    def there_and_back(x: torch.Tensor) -> torch.Tensor:
        values, indices = pool(x, kernel, stride, return_indices=True)
        return unpool(values, indices, kernel, stride, output_size=x.shape)

    check(Function(there_and_back), 1, 9, dims, tight=False)


LOCAL_FUNCTIONS = {
    "slice": lambda x: x[:, :, 2:-1, 1:],
    "strided slice": lambda x: x[:, :, ::2, 1::3],
    "centre crop and join": lambda x: torch.cat([x[:, :, 2:-2, 2:-2], F.avg_pool2d(x, 5, 1)], 1),
    "constant padding": lambda x: F.pad(x, (1, 2, 3, 0), value=2.0),
    "cropping padding": lambda x: F.pad(x, (-1, 2, -2, 1)),
    "shift by padding": lambda x: F.pad(x, (0, 0, 3, 0))[:, :, :-3],
    "join along an axis": lambda x: torch.cat([x[:, :, 3:], x[:, :, :3] * 2], 2),
    "interleaved halves": lambda x: torch.stack([x[:, :, ::2], 2 * x[:, :, 1::2]], 3).view(x.shape),
    "pixel unshuffle and shuffle": lambda x: F.pixel_shuffle(F.pixel_unshuffle(x, 2) * 2, 2),
    "channel shuffle": lambda x: F.channel_shuffle(torch.cat([x, x * 2], 1), 2),
    "channel sum": lambda x: x + torch.cat([x, -x, x], 1).sum(1, keepdim=True),
    "channel maximum": lambda x: torch.cat([x, x * 2], 1).amax(1, keepdim=True),
    "permute and back": lambda x: (x.permute(0, 2, 3, 1) * 2).permute(0, 3, 1, 2),
    "tokens and back": lambda x: (x.flatten(2).transpose(1, 2) * 2).transpose(1, 2).view(x.shape),
    "write into a slice": lambda x: write_into(x * 1, slice(0, 3)),
    "write into a column": lambda x: write_column(x * 1),
    "write from elsewhere": lambda x: copy_into(x * 1),
    "split and join": lambda x: torch.cat([p * (i + 1) for i, p in enumerate(x.split(4, 2))], 2),
    "unbind and stack": lambda x: torch.stack(list(x.unbind(2)), 2),
    "sliding windows": lambda x: x.unfold(2, 4, 2).sum(-1),
    "im2col": lambda x: F.unfold(x, 3, padding=1).sum(1).view(x.shape),
    "im2col and col2im": lambda x: F.fold(F.unfold(x, 3, padding=1), x.shape[2:], 3, padding=1),
    "adaptive pooling by half": lambda x: F.adaptive_avg_pool2d(
        x, (x.shape[2] // 2, x.shape[3] // 2)
    ),
    "adaptive maximum by half": lambda x: F.adaptive_max_pool2d(
        x, (x.shape[2] // 2, x.shape[3] // 2)
    ),
    "window sums": lambda x: window_sums(x, 4),
    "repeat channels": lambda x: x.repeat(1, 2, 1, 1) + x,
    "repeat the axis": lambda x: x.repeat(1, 1, 2, 1),
    "roll": lambda x: x.roll(2, 2),
    "flip": lambda x: x.flip(2),
    "flip of two axes": lambda x: x.flip(2, -1) * 2 + x.flip((-2, 3)),
    "half a turn": lambda x: torch.rot90(x, 2, (2, 3)),
    "a quarter turn there and back": lambda x: torch.rot90(
        F.avg_pool2d(torch.rot90(x, 1, (2, 3)), 2, 2), 3, (-2, -1)
    ),
    "a quarter turn": lambda x: torch.rot90(x, -1, (2, 3)).rot90(dims=(2, 3)),
    "pick channels": lambda x: torch.cat([x, 2 * x], 1)[:, torch.tensor([1, 0])],
    "in-place chain": lambda x: (x * 2).add_(x).relu_().mul_(2),
}


def write_into(x: torch.Tensor, rows: slice) -> torch.Tensor:
    x[:, :, rows] *= 2
    return x


def write_column(x: torch.Tensor) -> torch.Tensor:
    view = x.transpose(2, 3)[:, :, 2]
    view += 3
    return x


def copy_into(x: torch.Tensor) -> torch.Tensor:
    result = torch.zeros_like(x)
    result[:, :, 2:] = x[:, :, :-2]
    return result


def window_sums(x: torch.Tensor, side: int) -> torch.Tensor:
    rows, columns = x.shape[2] // side, x.shape[3] // side
    parts = x.view(1, -1, rows, side, columns, side).permute(0, 2, 4, 3, 5, 1)
    tokens = parts.reshape(rows * columns, side * side, -1)
    mixed = tokens + tokens.sum(1, keepdim=True)
    back = mixed.view(1, rows, columns, side, side, -1).permute(0, 5, 1, 3, 2, 4)
    return back.reshape(x.shape)


@pytest.mark.parametrize("name", LOCAL_FUNCTIONS)
def test_a_move_or_a_mixture_is_followed_position_by_position(name: str) -> None:
    loose = {"interleaved halves", "pixel unshuffle and shuffle", "write from elsewhere"}
    loose |= {"write into a slice", "write into a column", "im2col and col2im", "unbind and stack"}
    check(Function(LOCAL_FUNCTIONS[name]), 1, 16, 2, tight=name not in loose)


def test_reading_through_a_view_sees_a_write_through_another() -> None:
    def aliased(x: torch.Tensor) -> torch.Tensor:
        base = torch.zeros_like(x)
        reader = base[:, :, 4:]
        base[:, :, 4:] += x[:, :, :-4]
        return reader * 1

    check(Function(aliased), 1, 12, 2, tight=False)
