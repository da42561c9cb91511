"""The papers' networks have the halo of the reference table, in every form that torch runs."""

from __future__ import annotations

from time import process_time

import pytest
import torch
import torch.nn.functional as F
from locality_brute import Function, check_tiles, single_thread, whole_numbers  # noqa: F401
from locality_networks import UNet, fc_densenet
from torch import nn

from exactile.geometry import Halo
from exactile.locality import Analysis, analyze
from exactile.memory.peak import measure_peak

# Depth, convolutions a level, F, needed, rounded: reference/tables/radii.csv.
UNETS = [
    (4, 2, 16, 94, 96),
    (3, 3, 8, 69, 72),
    (1, 1, 2, 5, 6),
    (1, 3, 2, 13, 14),
    (2, 2, 4, 22, 24),
    (2, 3, 4, 33, 36),
    (3, 4, 8, 92, 96),
    pytest.param(4, 8, 16, 376, 384, marks=pytest.mark.slow),
]
# Layers, needed, rounded: low and high differ.
DENSENETS = [
    (56, (381, 413), (384, 416)),
    pytest.param(67, (476, 508), (480, 512), marks=pytest.mark.slow),
    pytest.param(103, (1115, 1147), (1120, 1152), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("depth", "count", "alignment", "needed", "rounded"), UNETS)
def test_a_unet_has_the_tabled_halo(
    depth: int, count: int, alignment: int, needed: int, rounded: int
) -> None:
    found = analyze(UNet(depth, count), 1)
    assert found.locality.alignment == (alignment, alignment)
    assert found.needed == (Halo(needed, needed),) * 2
    assert found.locality.halo == (Halo(rounded, rounded),) * 2
    assert found.scale == (1, 1)
    assert found.crop == (Halo(0, 0),) * 2
    assert found.extent == (alignment + 2 * rounded,) * 2
    assert found.batchable


@pytest.mark.parametrize(("layers", "needed", "rounded"), DENSENETS)
def test_an_fc_densenet_has_the_tabled_halo_on_each_side_within_a_minute_and_two_gigabytes(
    layers: int, needed: tuple[int, int], rounded: tuple[int, int]
) -> None:
    # Seconds on cores, and memory beside what is held: what else goes on must not count.
    results: list[Analysis] = []
    started = process_time()
    taken = measure_peak(
        torch.device("cpu"), lambda: results.append(analyze(fc_densenet(layers), 1))
    )
    seconds = process_time() - started
    (found,) = results
    assert found.locality.alignment == (32, 32)
    assert found.needed == (Halo(*needed),) * 2
    assert found.locality.halo == (Halo(*rounded),) * 2
    assert found.crop == (Halo(0, 0),) * 2, "the sides differ, but the output is whole"
    assert seconds < 60
    assert taken is not None
    assert taken < 2 * 1024**3


def test_a_volumetric_unet_has_the_planar_halo_on_three_axes() -> None:
    found = analyze(UNet(2, 2, dims=3), 1, spatial_dims=3)
    assert found.needed == (Halo(22, 22),) * 3
    assert found.locality.alignment == (4, 4, 4)


def test_each_axis_has_its_own_period_and_halo() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 1, (3, 7), padding=(1, 3)),
        nn.MaxPool2d((1, 4)),
        nn.Upsample(scale_factor=(1, 4)),
    )
    found = analyze(module, 1)
    assert found.locality.alignment == (1, 4)
    assert found.needed == (Halo(1, 1), Halo(3, 3))


class Resized(nn.Module):
    """Up-samples to another feature map's size, and writes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.max_pool2d(self.conv(x), 2)
        y = F.interpolate(y, size=[x.shape[2], x.shape[3]], mode="bilinear")
        y += x
        return y


def as_exported(module: nn.Module) -> nn.Module:
    rows, columns = torch.export.Dim("rows"), torch.export.Dim("columns")
    program = torch.export.export(
        module, (torch.zeros(1, 1, 64, 48),), dynamic_shapes=({2: 4 * rows, 3: 4 * columns},)
    )
    return program.module()


FORMS = {
    "scripted": torch.jit.script,
    "frozen": lambda module: torch.jit.freeze(torch.jit.script(module)),
    "exported": as_exported,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_saved_form_has_the_locality_of_the_eager_module(form: str) -> None:
    module = Resized().eval()
    expected = analyze(module, 1)
    found = analyze(FORMS[form](module), 1)
    assert found.locality == expected.locality
    assert found.needed == expected.needed


def test_a_traced_unet_has_the_locality_of_the_eager_one() -> None:
    module = UNet(2, 2).eval()
    traced = torch.jit.trace(module, torch.zeros(1, 1, 32, 32))
    assert analyze(traced, 1).needed == (Halo(22, 22),) * 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_another_type_change_nothing(dtype: torch.dtype) -> None:
    assert analyze(UNet(1, 1).to(dtype), 1).needed == (Halo(5, 5),) * 2


def test_an_analysis_leaves_the_module_as_it_was() -> None:
    module = UNet(1, 1)
    module.down[0].eval()
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    analyze(module, 1)
    assert [part.training for part in module.modules()] == modes
    for name, value in module.state_dict().items():
        assert torch.equal(value, weights[name])


def test_a_network_that_writes_into_its_input_is_followed() -> None:
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(1, 1, 3, padding=1))
    assert analyze(module, 1).needed == (Halo(1, 1),) * 2


def test_a_period_that_only_the_values_show_is_found() -> None:
    """Odd and even rows meet other weights, but each row reads itself alone."""

    def interleaved(x: torch.Tensor, first: nn.Module, second: nn.Module) -> torch.Tensor:
        return torch.stack([first(x[:, :, ::2]), second(x[:, :, 1::2])], 3).view(x.shape)

    def striped(x: torch.Tensor) -> torch.Tensor:
        stripes = torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None]
        return (x.view(1, 1, -1, 4, x.shape[3]) * stripes).view(x.shape)

    parts = (nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1))
    assert analyze(Function(interleaved, *parts), 1).locality.alignment == (2, 1)
    assert analyze(Function(striped), 1).locality.alignment == (4, 1)


def test_a_border_that_reaches_further_than_any_dependency_counts_for_the_halo() -> None:
    """A shift fills the edge with zeros that the next convolution carries inwards."""

    def shifted(x: torch.Tensor) -> torch.Tensor:
        moved = F.pad(x, (0, 0, 3, 0))[:, :, :-3]
        return F.conv2d(moved, torch.ones(1, 1, 3, 1, dtype=x.dtype), padding=(1, 0))

    module = Function(shifted).double()
    found = analyze(module, 1)
    assert found.needed[0].low == 4
    assert found.needed[0].high >= 1, "the last row misses x[N - 3], which it has inside the image"
    check_tiles(module, found, 1)


def test_a_network_that_pads_by_itself_gets_the_multiple_as_its_period() -> None:
    def padded(x: torch.Tensor, conv: nn.Module) -> torch.Tensor:
        rows = -x.shape[2] % 16
        return conv(F.pad(x, (0, 0, 0, rows)))[:, :, : x.shape[2]]

    module = Function(padded, nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate"))
    whole_numbers(module)
    found = analyze(module, 1)
    assert found.locality.alignment == (16, 1)
    check_tiles(module, found, 1)


def window_attention(x: torch.Tensor, qkv: nn.Module) -> torch.Tensor:
    side, (rows, columns) = 4, (x.shape[2] // 4, x.shape[3] // 4)
    parts = x.view(1, -1, rows, side, columns, side).permute(0, 2, 4, 3, 5, 1)
    tokens = qkv(parts.reshape(rows * columns, 1, side * side, x.shape[1]))
    query, key, value = tokens.chunk(3, -1)
    mixed = F.scaled_dot_product_attention(query, key, value)
    back = mixed.reshape(1, rows, columns, side, side, -1).permute(0, 5, 1, 3, 2, 4)
    return back.reshape(x.shape)


def test_attention_inside_windows_is_local_with_the_window_as_period() -> None:
    found = analyze(Function(window_attention, nn.Linear(8, 24)), 8)
    assert found.locality.alignment == (4, 4)
    assert found.needed == (Halo(0, 0),) * 2


def convnext_block(x: torch.Tensor, *parts: nn.Module) -> torch.Tensor:
    depthwise, norm, widen, narrow = parts
    y = norm(depthwise(x).permute(0, 2, 3, 1))
    return x + narrow(F.gelu(widen(y))).permute(0, 3, 1, 2)


def test_layer_norm_and_linear_layers_over_channels_are_local() -> None:
    block = Function(
        convnext_block,
        nn.Conv2d(4, 4, 7, padding=3, groups=4),
        nn.LayerNorm(4),
        nn.Linear(4, 8),
        nn.Linear(8, 4),
    )
    found = analyze(block, 4)
    assert found.locality.alignment == (1, 1)
    assert found.needed == (Halo(3, 3),) * 2


@pytest.mark.parametrize(
    "activation",
    [
        nn.GELU(),
        nn.Mish(),
        nn.PReLU(),
        nn.SiLU(inplace=True),
        nn.Hardswish(),
        nn.Softplus(),
        nn.RReLU(),
        nn.LogSigmoid(),
        nn.Threshold(0, 1),
        nn.ELU(),
        nn.CELU(),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Softmax(1),
        nn.LogSoftmax(1),
        nn.Dropout(),
        nn.Dropout2d(),
        nn.AlphaDropout(),
        nn.LocalResponseNorm(3),
    ],
    ids=lambda module: type(module).__name__,
)
def test_activations_are_pointwise(activation: nn.Module) -> None:
    found = analyze(nn.Sequential(nn.Conv2d(1, 4, 1), activation), 1)
    assert found.needed == (Halo(0, 0),) * 2
    assert found.locality.alignment == (1, 1)


def test_images_of_a_batch_that_are_mixed_are_noticed() -> None:
    assert not analyze(Function(lambda x: x - x.mean(0)), 2).batchable
    assert analyze(nn.Conv2d(1, 1, 3), 1).batchable


def test_the_operators_that_contribute_most_come_first() -> None:
    found = analyze(UNet(2, 2), 1)
    operator, module, pixels = found.contributions[0]
    assert operator == "aten.convolution"
    assert module.startswith("down.2")
    assert pixels == 4
    assert found.operators["aten.convolution"] == 13
