"""The networks of the papers: their locality, and tiles that are the whole image."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import noise_image
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from exactile.engines.eager import make_engine
from exactile.geometry import Halo, Locality
from exactile.locality import analyze
from exactile.locality.formulas import formula_radius_of, rounded
from exactile.models.architectures import build
from exactile.models.card import Card
from exactile.models.fc_densenet import FCDenseNet
from exactile.models.fcn_vgg16 import FCNVGG16, bilinear
from exactile.models.segnet import SegNet
from exactile.models.unet import UNet
from exactile.models.unet3d import UNet3d
from exactile.tiling import Plan, plan

OURS = Path(__file__).parents[1] / "docs" / "results" / "radii.csv"
CPU = torch.device("cpu")


def read_table(path: Path) -> dict[str, dict[str, str]]:
    with path.open() as file:
        return {row["architecture"]: row for row in csv.DictReader(file)}


def network_of(name: str) -> nn.Module:
    """Return the architecture of a row, at small width."""
    words = name.split()
    if words[0] == "U-Net":
        return UNet(base_width=2, depth=int(words[2]), convolutions=int(words[4]))
    if words[0] == "SegNet":
        return SegNet(base_width=2)
    if words[0] == "FCN-VGG16":
        return FCNVGG16(base_width=2)
    size = int(words[0].removeprefix("FC-DenseNet-"))
    return FCDenseNet(layers=size, first_width=4, growth=2)  # type: ignore[arg-type]


LONG = ("U-Net depth 4 n 8", "FC-DenseNet-67", "FC-DenseNet-103")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LONG else [])
        for name in read_table(OURS)
    ],
)
def test_a_row_of_our_table_is_what_formula_and_tracing_give(name: str) -> None:
    row, network = read_table(OURS)[name], network_of(name)
    found, alignment = analyze(network, 1), int(row["F"])
    needed = Halo(int(row["needed_low"]), int(row["needed_high"]))
    formula = int(row["formula_radius"])
    assert found.locality.alignment == (alignment,) * 2
    assert found.needed == (needed,) * 2
    assert (
        found.locality.halo
        == (Halo(int(row["needed_rounded_low"]), int(row["needed_rounded_high"])),) * 2
    )
    assert found.scale == (1, 1)
    assert found.crop == (Halo(0, 0),) * 2
    assert formula_radius_of(network, 1) == (formula,) * 2
    assert rounded(formula, alignment) == int(row["formula_rounded"])


def test_our_table_is_the_papers_with_its_blanks_filled(shared: Path) -> None:
    ours, papers = read_table(OURS), read_table(shared / "reference/tables/radii.csv")
    assert list(ours) == list(papers)
    differing = {
        (name, column): (ours[name][column], value)
        for name, row in papers.items()
        for column, value in row.items()
        if column != "source" and value not in ("", ours[name][column])
    }
    # The papers print this one radius as it is.
    assert differing == {("FCN-VGG16", "formula_rounded"): ("224", "202")}
    assert all(all(row.values()) for row in ours.values())


def randomized(network: nn.Module) -> nn.Module:
    """Give batch normalisations statistics and weights as after some training."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.2, 0.6)
            nn.init.uniform_(module.weight, 0.6, 1.4)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return network.eval()


@pytest.mark.parametrize(("kind", "radius"), [(SegNet, 186), (FCNVGG16, 218)])
def test_input_beyond_the_filled_in_radius_never_reaches_a_zone_and_at_the_radius_does(
    kind: type[SegNet | FCNVGG16], radius: int
) -> None:
    torch.manual_seed(0)
    network = randomized(kind(base_width=2)).double()
    start = rounded(radius, 32) + 32
    image = torch.randn(1, 1, start + 32 + start, 32, dtype=torch.float64)
    with torch.inference_mode():
        expected = network(image)[:, :, start : start + 32]
        for changed, reached in (
            (slice(0, start - radius), False),
            (slice(0, start - radius + 1), True),
            (slice(start + 32 + radius, None), False),
            (slice(start + 32 + radius - 1, None), True),
        ):
            for poison in (torch.nan, 1e6):
                poisoned = image.clone()
                poisoned[:, :, changed] *= poison
                found = network(poisoned)[:, :, start : start + 32]
                assert torch.equal(found, expected) is not reached


def run_tiles(run: Callable[[Tensor], Tensor], image: Tensor, tiling: Plan) -> Tensor:
    """Return (classes, *extent) from an image (channels, *extent), tile by tile."""
    result: Tensor | None = None
    for tile in tiling.tiles():
        output = run(image[tile.window.slices])
        if result is None:
            result = torch.full((output.shape[0], *tiling.extent), torch.nan)
        result[tile.zone.slices] = output[tile.crop.slices]
    assert tiling.count > 1
    assert result is not None
    return result


def planned(network: nn.Module, shape: tuple[int, ...], tile: int) -> Plan:
    locality: Locality = analyze(network, 1, len(shape)).locality
    return plan(shape, locality, tile)


def engine_run(network: nn.Module, precision: str) -> Callable[[Tensor], Tensor]:
    engine = make_engine(network, CPU, precision)  # type: ignore[arg-type]
    return lambda window: engine.logits(window.numpy()[None])[0]


def standard_noise(shape: tuple[int, ...]) -> Tensor:
    pixels = torch.from_numpy(noise_image((1, *shape)).astype("float32"))
    return (pixels - pixels.mean()) / pixels.std()


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("network", "shape", "tile"),
    [
        (UNet(1, 3, 8, depth=3, convolutions=1, kernel_size=5), (500, 420), 352),
        (UNet(1, 3, 8, depth=2, convolutions=3), (360, 420), 328),
        (SegNet(1, 3, 4), (640, 512), 544),
        (FCNVGG16(1, 3, 4), (640, 192), 333),
    ],
    ids=["unet_kernel_5", "unet_n_3", "segnet", "fcn_vgg16"],
)
def test_planar_networks_give_the_bits_of_the_whole_image(
    network: nn.Module, shape: tuple[int, int], tile: int, precision: str
) -> None:
    torch.manual_seed(0)
    run = engine_run(randomized(network), precision)
    tiling = planned(network, shape, tile)
    image = standard_noise(tiling.extent)
    expected = run(image)
    assert expected.std() > 1e-3
    assert torch.equal(run_tiles(run, image, tiling), expected)


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("shape", "tile"),
    [((1088, 64), 260), pytest.param((1088, 832), 938, marks=pytest.mark.slow)],
    ids=["strip", "square"],
)
def test_an_fc_densenet_gives_the_bits_of_the_whole_image(
    shape: tuple[int, int], tile: int, precision: str
) -> None:
    """Its transposed convolutions are bit-stable on a CPU as `exactile.fixed_order` runs them."""
    torch.manual_seed(0)
    network = randomized(FCDenseNet(1, 3, 56, first_width=4, growth=2))
    tiling = planned(network, shape, tile)
    image = standard_noise(tiling.extent)
    run = engine_run(network, precision)
    assert torch.equal(run_tiles(run, image, tiling), run(image))


@pytest.mark.parametrize(
    ("dtype", "shape", "tile"),
    [(torch.bfloat16, (44, 44, 44), 40), (torch.float32, (92, 72, 70), 72)],
    ids=["bfloat16", "float32"],
)
def test_a_volumetric_unet_gives_the_bits_of_the_whole_volume(
    dtype: torch.dtype, shape: tuple[int, int, int], tile: int
) -> None:
    torch.manual_seed(0)
    network = randomized(UNet3d(1, 2, 4, depth=2, convolutions=1)).to(dtype)
    tiling = planned(network, shape, tile)
    volume = torch.randn(1, *tiling.extent).to(dtype)
    with torch.inference_mode():
        expected = network(volume[None])[0]
        found = run_tiles(lambda window: network(window[None])[0], volume, tiling)
    assert torch.equal(found, expected.to(found.dtype))


def test_the_public_volumetric_unet_has_the_halo_of_a_planar_one_on_three_axes() -> None:
    found = analyze(UNet3d(base_width=1), 1, 3)
    assert found.locality.alignment == (8, 8, 8)
    assert found.needed == (Halo(46, 46),) * 3
    assert found.needed[:2] == analyze(UNet(base_width=1, depth=3), 1).needed
    assert formula_radius_of(UNet3d(base_width=1), 1, 3) == (44, 44, 44)


@pytest.mark.parametrize(
    ("network", "millions"),
    [
        (lambda: FCDenseNet(3, 11, 56), 1.4),
        (lambda: FCDenseNet(3, 11, 67), 3.5),
        (lambda: FCDenseNet(3, 11, 103), 9.3),
        (lambda: SegNet(3, 11), 29.4),
        (lambda: FCNVGG16(3, 21), 134.4),
        (lambda: UNet(1, 2), 31.0),
        (lambda: UNet3d(1, 2), 5.6),
    ],
    ids=["56", "67", "103", "segnet", "fcn_vgg16", "unet", "unet3d"],
)
def test_networks_of_the_published_width_have_about_the_published_number_of_parameters(
    network: Callable[[], nn.Module], millions: float
) -> None:
    """Jegou et al. print 1.5, 3.5 and 9.4 million, Long et al. 134 million."""
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in network().parameters())
    assert round(count / 1e6, 1) == millions


def test_the_enlargement_of_an_fcn_starts_as_bilinear_interpolation() -> None:
    scores = torch.randn(1, 2, 5, 6)
    enlarge = FCNVGG16(classes=2, base_width=1).enlarge
    expected = nn.functional.interpolate(scores, scale_factor=32, mode="bilinear")
    inner = (..., slice(32, -32), slice(32, -32))
    torch.testing.assert_close(enlarge(scores)[inner], expected[inner])
    assert bilinear(4).sum() == 16


ARCHITECTURES = {
    UNet: {"name": "unet", "base_width": 2, "depth": 2, "convolutions": 1},
    UNet3d: {"name": "unet3d", "base_width": 2, "depth": 2, "convolutions": 1},
    FCDenseNet: {"name": "fc_densenet", "layers": 67, "first_width": 4, "growth": 2},
    SegNet: {"name": "segnet", "base_width": 2},
    FCNVGG16: {"name": "fcn_vgg16", "base_width": 1},
}


def card(**architecture: object) -> Card:
    """Return a card with an architecture of 1 channel and 3 classes."""
    return Card.model_validate(
        {
            "format": "exactile-model-1",
            "architecture": {"channels": 1, "classes": 3, **architecture},
            "normalization": "zscore",
            "classes": ("a", "b", "c"),
            "weights": {"file": "weights.safetensors", "sha256": "0" * 64},
            "training": {},
            "metrics": {},
        }
        | dict.fromkeys(
            ("name", "description", "version", "license", "data_source", "acknowledgement"), ""
        )
    )


@pytest.mark.parametrize("kind", ARCHITECTURES, ids=lambda kind: kind.__name__)
def test_the_network_that_a_card_names_is_built(kind: type[nn.Module]) -> None:
    described = card(**ARCHITECTURES[kind])
    network = build(described.architecture).eval()
    assert type(network) is kind
    assert Card.model_validate(described.model_dump(mode="json")) == described
    extent = (32,) * described.architecture.dimensions
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, *extent)).shape == (1, 3, *extent)


def test_other_architectures_and_sizes_are_refused() -> None:
    with pytest.raises(ValidationError, match="does not match any of the expected tags"):
        card(name="transformer")
    with pytest.raises(ValidationError, match="56, 67 or 103"):
        card(name="fc_densenet", layers=121)
    with pytest.raises(ValueError, match="no FC-DenseNet-121; use 56, 67 or 103"):
        FCDenseNet(layers=121)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="odd kernel, not 2"):
        UNet3d(kernel_size=2)
