"""Under `fixed_order` a region has the same bits in every window, and nearly the original's values.

Windows lie where the plan puts them: on the operator's grid, and flush with the map's edges.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from exactile.fixed_order import FixedOrder, fixed_order
from exactile.geometry import AxisLocality, Halo, Locality
from exactile.tiling import plan

CPU = torch.device("cpu")
EXTENT = 96
SIDES = (8, 12, 20, 24, 32, 44, 60)

Operator = Callable[[Tensor], Tensor]


def run(operator: Operator, x: Tensor, mended: bool = True) -> Tensor:
    with torch.inference_mode(), fixed_order(CPU) if mended else nullcontext():
        return operator(x.contiguous(memory_format=torch.channels_last))


def noise(channels: int, extent: int = EXTENT, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(channels)
    return torch.randn(1, channels, extent, extent, generator=generator).to(dtype)


def assert_windows_equal(
    operator: Operator,
    x: Tensor,
    factor: Fraction = Fraction(1),
    reach: int = 0,
    sides: tuple[int, ...] = SIDES,
) -> None:
    """Compare windows at the first corner, inside and at the last corner with the whole of `x`."""
    extent = x.shape[-1]
    whole = run(operator, x)
    for side in sides:
        for start in (0, (extent - side) // 8 * 4, extent - side):
            part = slice(start, start + side)
            window = run(operator, x[..., part, part])
            low = 0 if start == 0 else reach
            high = side if start + side == extent else side - reach
            own = slice(int(low * factor), int(high * factor))
            same = slice(int((start + low) * factor), int((start + high) * factor))
            assert window[..., own, own].numel()
            assert torch.equal(window[..., own, own], whole[..., same, same]), (side, start)


def assert_close(operator: nn.Module, x: Tensor) -> None:
    """Compare with the original in float64: a few roundings apart, as the original is itself."""
    with torch.inference_mode():
        exact = operator.double()(x.double())
        operator.float()
    result = run(operator, x.float()).double()
    assert result.shape == exact.shape
    assert float((result - exact).abs().max()) <= 2e-6 * float(exact.abs().max())


@pytest.mark.parametrize(
    ("channels", "out", "kernel", "dilation"),
    [
        *((1, 16, 3, 1), (3, 64, 3, 1), (16, 16, 3, 1), (32, 64, 3, 1), (128, 64, 3, 1)),
        *((64, 3, 1, 1), (64, 64, 3, 3), (32, 16, 3, 6), (64, 64, 7, 1), (1, 16, 7, 1)),
    ],
)
def test_small_maps_are_convolved_as_large_ones(
    channels: int, out: int, kernel: int, dilation: int
) -> None:
    torch.manual_seed(0)
    reach = dilation * (kernel // 2)
    operator = nn.Conv2d(channels, out, kernel, padding=reach, dilation=dilation)
    sides = tuple(side for side in (13, *SIDES) if side > 2 * reach)
    assert_windows_equal(operator, noise(channels), reach=reach, sides=sides)


TRANSPOSED = [
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    {"kernel_size": 4, "stride": 2, "padding": 1},
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "groups": 4},
    {"kernel_size": 5, "stride": 3, "padding": 2, "output_padding": 2},
    {"kernel_size": 3, "stride": 2, "padding": 2, "output_padding": 1, "dilation": 2},
    {"kernel_size": (3, 2), "stride": (2, 2), "padding": (1, 0), "output_padding": (1, 0)},
    {"kernel_size": 2, "stride": 3, "output_padding": 1},
    {"kernel_size": 3, "stride": 1, "padding": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "bias": False},
]


@pytest.mark.parametrize("channels", [16, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", TRANSPOSED[:4])
def test_transposed_convolutions_have_the_same_bits_in_windows(
    options: dict, dtype: torch.dtype, channels: int
) -> None:
    torch.manual_seed(0)
    operator = nn.ConvTranspose2d(channels, 32, **options).to(dtype)
    assert_windows_equal(operator, noise(channels, 64, dtype), Fraction(2), 2, SIDES[:6])


@pytest.mark.parametrize("options", TRANSPOSED)
def test_transposed_convolutions_are_those_of_pytorch(options: dict) -> None:
    torch.manual_seed(0)
    assert_close(nn.ConvTranspose2d(8, 12, **options), torch.randn(2, 8, 9, 11))


def test_lines_volumes_and_single_images_are_convolved_as_by_pytorch() -> None:
    torch.manual_seed(0)
    shared = {"kernel_size": 3, "stride": 2, "padding": 1}
    for operator, shape in (
        (nn.ConvTranspose1d(8, 4, **shared), (2, 8, 9)),
        (nn.Conv1d(8, 4, **shared), (2, 8, 9)),
        (nn.ConvTranspose3d(8, 4, **shared, output_padding=1), (1, 8, 4, 5, 6)),
        (nn.Conv3d(8, 4, 3, padding=2, dilation=2), (1, 8, 6, 7, 8)),
        (nn.ConvTranspose2d(8, 4, **shared), (8, 5, 6)),
    ):
        x = torch.randn(shape)
        with torch.inference_mode(), FixedOrder():
            mended = operator(x)
        assert torch.allclose(mended, operator(x), rtol=0, atol=2e-6)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [2, 3, 1.5, 1.25])
@pytest.mark.parametrize("channels", [2, 8])
def test_upsampling_does_not_depend_on_the_place(mode: str, scale: float, channels: int) -> None:
    def operator(x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=scale, mode=mode)

    assert_windows_equal(operator, noise(channels, 240), Fraction(scale), 4, (12, 40, 64, 120))


@pytest.mark.parametrize("mode", ["linear", "bilinear", "bicubic", "trilinear"])
@pytest.mark.parametrize("scale", [2, 3, 1.5, 0.5])
def test_upsampling_is_that_of_pytorch(mode: str, scale: float) -> None:
    axes = {"linear": 1, "trilinear": 3}.get(mode, 2)
    x = torch.randn(2, 5, *(8, 10, 12)[:axes], generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = functional.interpolate(x.double(), scale_factor=scale, mode=mode)
        with FixedOrder():
            mended = functional.interpolate(x, scale_factor=scale, mode=mode)
            to_size = functional.interpolate(x, tuple(exact.shape[2:]), mode=mode)
    assert torch.equal(mended, to_size)
    # PyTorch's own float32 result is up to 1e-6 away, for its positions are rounded.
    assert torch.allclose(mended.double(), exact, rtol=0, atol=1e-6)


ACTIVATIONS = {
    "sigmoid": nn.Sigmoid(),
    "silu": nn.SiLU(),
    "silu in place": nn.Sequential(nn.Identity(), nn.SiLU(inplace=True)),
    "gelu": nn.GELU(),
    "gelu tanh": nn.GELU(approximate="tanh"),
    "elu": nn.ELU(0.7),
    "celu": nn.CELU(1.3),
    "selu": nn.SELU(),
    "softplus": nn.Softplus(2, 3),
    "mish": nn.Mish(),
    "glu": nn.GLU(1),
    "softmax": nn.Softmax(1),
    "log-softmax": nn.LogSoftmax(1),
}


class Crop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[..., 1:-1, 1:-1]


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous().mean(1, keepdim=True) + x.contiguous().sum((1,), keepdim=True)


@pytest.mark.parametrize("name", [*ACTIVATIONS, "mean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_do_not_depend_on_the_rows_length(name: str, dtype: torch.dtype) -> None:
    operator = nn.Sequential(nn.ConstantPad2d(1, 0), Crop(), ACTIVATIONS.get(name, Mean()))
    assert_windows_equal(operator, noise(10, 151, dtype), sides=(13, 31, 44, 100))


@pytest.mark.parametrize("name", [*ACTIVATIONS, "mean"])
def test_activations_are_those_of_pytorch(name: str) -> None:
    x = torch.linspace(-30, 30, 10 * 7 * 9).view(1, 10, 7, 9)
    assert_close(ACTIVATIONS.get(name, Mean()), x)


def test_activations_keep_infinity_and_nan() -> None:
    x = torch.tensor([[-torch.inf, torch.inf, torch.nan, 0.0, -200.0, 200.0]])
    for operator in (torch.sigmoid, functional.silu, functional.elu, functional.softplus):
        with torch.inference_mode():
            original = operator(x)
            with FixedOrder():
                assert torch.allclose(operator(x), original, equal_nan=True)


def decoder() -> nn.Sequential:
    """The end of an FC-DenseNet: two transitions up, which are transposed 3x3 convolutions."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(1, 24, 3, 4, 1)]
    for a, b in pairwise((24, 32, 16)):
        up = nn.ConvTranspose2d(a, b, 3, 2, 1, 1)
        layers += [up, nn.BatchNorm2d(b), nn.SiLU(), nn.Conv2d(b, b, 3, padding=1)]
    return nn.Sequential(*layers, nn.Conv2d(16, 3, 1), nn.Softmax(1)).eval()


def as_module(form: str) -> nn.Module:
    x = torch.randn(1, 1, 64, 64)
    if form == "script":
        return torch.jit.freeze(torch.jit.script(decoder()))
    if form == "trace":
        return torch.jit.trace(decoder(), x)
    if form == "export":
        sizes = {2: 4 * torch.export.Dim("y", min=8), 3: 4 * torch.export.Dim("x", min=8)}
        return torch.export.export(decoder(), (x,), dynamic_shapes=(sizes,)).module()
    return decoder()


@pytest.mark.parametrize("form", ["eager", "script", "trace", "export"])
def test_tiles_of_a_decoder_equal_the_whole_image(form: str) -> None:
    network = as_module(form)
    tiling = plan((212, 148), Locality((AxisLocality(4, Halo(12, 12)),) * 2), tile=68)
    image = torch.randn(1, 1, *tiling.extent, generator=torch.Generator().manual_seed(1))
    whole = run(network, image)
    result = torch.full_like(whole, torch.nan)
    for tile in tiling.tiles():
        result[tile.zone.slices] = run(network, image[tile.window.slices])[tile.crop.slices]
    assert tiling.count > 6
    assert torch.equal(result, whole)


def test_a_network_of_plain_operators_is_as_near_to_float64_as_pytorch_makes_it() -> None:
    # Which kernels PyTorch chooses by itself depends on the machine and its threads.
    torch.manual_seed(0)
    network = nn.Sequential(
        *(
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
        ),
        *(nn.BatchNorm2d(32), nn.ReLU(), nn.ConvTranspose2d(32, 16, 2, 2), nn.Conv2d(16, 2, 1)),
    ).eval()
    network = network.to(memory_format=torch.channels_last)
    x = noise(8, 128)
    mended, original = run(network, x), run(network, x, mended=False)
    exact = run(network.double(), x.double(), mended=False)
    bound = 1e-6 * exact.abs().max()
    assert (original - exact).abs().max() <= bound
    assert (mended - exact).abs().max() <= bound


def test_an_unbounded_value_reaches_no_further_than_in_the_original() -> None:
    # The claimed dependency of a zone is proven with NaN on the original operators.
    operator = nn.ConvTranspose2d(4, 4, 3, 2, 1, 1)
    x = noise(4, 24)
    x[..., 11, 7] = torch.nan
    assert torch.equal(run(operator, x).isnan(), run(operator, x, mended=False).isnan())


def test_other_devices_and_types_are_left_alone() -> None:
    assert isinstance(fixed_order(torch.device("cuda", 0)), nullcontext)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with torch.inference_mode(), FixedOrder():
        assert torch.equal(functional.silu(x), functional.silu(x))
        assert functional.interpolate(x, scale_factor=3, mode="bilinear").dtype == torch.float64


WHOLE_VECTORS: dict[str, Callable[[Tensor], Tensor]] = {
    "pow": lambda x: (x.abs() + 0.1) ** 1.7,
    "pow of two": lambda x: (x.abs() + 0.1) ** x.tanh(),
    "pow of a number": lambda x: 2.0**x,
    "exp2": torch.exp2,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "atanh": lambda x: torch.atanh(x.tanh() * 0.9),
    "logit": lambda x: torch.logit(x.tanh() * 0.4 + 0.5),
    "atan2": lambda x: torch.atan2(x, x.flip(1)),
    "logaddexp": lambda x: torch.logaddexp(x, x.flip(1)),
    "sum with a factor": lambda x: torch.add(x, x.flip(1), alpha=0.3),
    "in place": lambda x: x.abs().pow_(1.7),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", WHOLE_VECTORS)
def test_where_a_vector_ends_does_not_show(name: str, dtype: torch.dtype) -> None:
    """Crops, strides and layouts move the ends of vectors; three threads add ends inside."""
    compute = WHOLE_VECTORS[name]
    x = torch.randn(1, 5, 61, 83, generator=torch.Generator().manual_seed(0)).to(dtype) * 3
    threads = torch.get_num_threads()
    with torch.inference_mode(), FixedOrder():
        whole = compute(x)
        torch.testing.assert_close(whole.float(), compute(x.double()).float(), atol=0.05, rtol=0.02)
        for rows, columns in ((slice(3, 40), slice(5, 50)), (slice(0, None, 2), slice(1, None, 3))):
            part = (slice(None), slice(None), rows, columns)
            for laid in (
                x[part],
                x[part].clone(),
                x[part].contiguous(memory_format=torch.channels_last),
            ):
                assert torch.equal(compute(laid), whole[part])
        try:
            torch.set_num_threads(3)
            assert torch.equal(compute(x.repeat(1, 1, 5, 1))[:, :, :61], whole)
        finally:
            torch.set_num_threads(threads)
