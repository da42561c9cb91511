"""The promise: what exactile writes equals one forward pass over the whole image, bit for bit.

Every test goes through files: an OME-TIFF in, `segment_collection`, an OME-TIFF out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from conftest import noise_image, random_unet, write_image
from numpy.typing import NDArray

from exactile.bit_stability import check_bit_stability
from exactile.engines.choose import choose_engine
from exactile.engines.eager import EagerEngine, make_engine
from exactile.locality.unet import unet_locality
from exactile.models.loading import BUNDLED, load_model
from exactile.reference import whole_image_pass
from exactile.report.progress import LogWatcher
from exactile.segment import ImageResult, segment_collection
from exactile.settings import SegmentSettings
from exactile.tiling import plan

CPU = torch.device("cpu")
ODD, ON_GRID, SMALL = (700, 839), (1024, 640), (100, 90)
THIN, ONE_WIDE = (17, 9000), (20_000, 1)


def run(inp_dir: Path, out_dir: Path, **options: Any) -> list[ImageResult]:
    options = {"engine": "eager"} | options
    settings = SegmentSettings.from_options({"inpDir": inp_dir, "outDir": out_dir, **options})
    results = list(segment_collection(settings, LogWatcher()))
    assert [result.error for result in results] == [""] * len(results)
    return results


def segment_one(folder: Path, pixels: NDArray[Any], **options: Any) -> NDArray[Any]:
    """Write one image, segment it, return the output as (C, Y, X)."""
    write_image(folder / "in" / "image.ome.tif", pixels)
    run(folder / "in", folder / "out", **options)
    found = tifffile.imread(folder / "out" / "image.ome.tif")
    return found.reshape(-1, *pixels.shape[-2:])


def reference(
    model: Path, pixels: NDArray[Any], precision: str, output: str, name: str = "eager"
) -> NDArray[Any]:
    loaded = load_model(model)
    kind: tuple[Any, ...] = (name, loaded.network, CPU, precision)
    engine = choose_engine(*kind, loaded.analysis, loaded.channels)
    pixels = pixels.reshape(-1, *pixels.shape[-2:])
    return whole_image_pass(engine, loaded, pixels, output)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "shape", [ODD, pytest.param(ON_GRID, marks=pytest.mark.slow), SMALL, THIN, ONE_WIDE]
)
@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("engine", "width"),
    [
        ("eager", 16),
        pytest.param("eager", 32, marks=pytest.mark.slow),
        pytest.param("openvino", 16, marks=pytest.mark.slow),
        pytest.param("openvino", 32, marks=pytest.mark.slow),
    ],
)
def test_logits_are_those_of_the_whole_image(
    tmp_path: Path,
    random_model: Callable[..., Path],
    engine: str,
    width: int,
    precision: str,
    shape: tuple,
) -> None:
    model, pixels = random_model(base_width=width), noise_image(shape)
    options = {"model": model, "precision": precision, "outputType": "logits", "engine": engine}
    found = segment_one(tmp_path, pixels, tileSize=512, **options)
    expected = reference(model, pixels, precision, "logits", engine)
    assert expected.std() > 0.01
    assert torch.equal(torch.from_numpy(found), torch.from_numpy(expected))


@pytest.mark.parametrize(
    "output", ["labels", pytest.param("probabilities", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "architecture",
    [
        {"depth": 2, "convolutions": 1, "base_width": 16},
        {"depth": 3, "convolutions": 3, "classes": 5, "channels": 3},
        {"depth": 1, "convolutions": 2, "kernel_size": 5, "classes": 3},
    ],
)
def test_other_depths_channels_and_classes_are_exact_too(
    tmp_path: Path, random_model: Callable[..., Path], architecture: dict, output: str
) -> None:
    model = random_model(**architecture)
    pixels = noise_image((architecture.get("channels", 1), 1, 601, 777))
    found = segment_one(tmp_path, pixels, model=model, tileSize=512, outputType=output)
    expected = reference(model, pixels, "float32", output)
    assert found.dtype == (np.uint8 if output == "labels" else np.float32)
    assert np.array_equal(found, expected)
    assert found.shape[0] == (1 if output == "labels" else architecture.get("classes", 2))


@pytest.mark.parametrize(
    ("engine", "output"),
    [pytest.param("eager", "labels", marks=pytest.mark.slow), ("auto", "logits")],
)
def test_the_bundled_model_gives_what_it_gives_for_the_whole_image(
    tmp_path: Path, engine: str, output: str
) -> None:
    pixels = noise_image((900, 1300))
    options = {"engine": engine, "outputType": output}
    found = segment_one(tmp_path, pixels, tileSize=512, **options)
    assert np.array_equal(found, reference(BUNDLED, pixels, "float32", output, engine))


@pytest.mark.parametrize("width", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_small_windows_of_narrow_networks_differ_by_rounding_at_most(
    tmp_path: Path, random_model: Callable[..., Path], width: int
) -> None:
    model, pixels = random_model(base_width=width), noise_image((500, 470))
    options = {"model": model, "tileSize": 240}
    labels = segment_one(tmp_path / "labels", pixels, **options)
    logits = segment_one(tmp_path / "logits", pixels, outputType="logits", **options)
    expected = reference(model, pixels, "float32", "logits")
    assert np.array_equal(labels, reference(model, pixels, "float32", "labels"))
    assert np.abs(logits - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.slow
def test_tile_sizes_runs_and_orders_give_the_same_bytes(tmp_path: Path) -> None:
    pixels = noise_image((1500, 1333))
    files = []
    for name, tile in (("a", 512), ("b", 512), ("c", 1216), ("d", "auto")):
        segment_one(tmp_path / name, pixels, tileSize=tile)
        files.append((tmp_path / name / "out" / "image.ome.tif").read_bytes())
    assert files[0] == files[1] == files[2] == files[3]


def test_a_batch_gives_the_bits_of_its_members() -> None:
    engine = make_engine(random_unet(base_width=16), CPU, "float32")
    windows = np.random.default_rng(0).standard_normal((3, 1, 512, 512), dtype=np.float32)
    single = torch.cat([engine.logits(window[None]) for window in windows])
    assert torch.equal(engine.logits(windows), single)


def test_every_plane_is_an_image_of_its_own_in_its_own_place(
    tmp_path: Path, random_model: Callable[..., Path]
) -> None:
    model = random_model(depth=2)
    pixels = noise_image((2, 1, 3, 150, 200)) + np.arange(6).reshape(2, 1, 3, 1, 1) * 50
    pixels = pixels.astype(np.uint16)
    write_image(tmp_path / "in" / "image.ome.tif", pixels)
    run(tmp_path / "in", tmp_path / "out", model=model, outputType="logits")
    with tifffile.TiffFile(tmp_path / "out" / "image.ome.tif") as file:
        assert file.series[0].axes == "TCZYX"
        found = file.asarray().reshape(2, 2, 3, 150, 200)
    for t in range(2):
        for z in range(3):
            expected = reference(model, pixels[t, :, z], "float32", "logits")
            assert np.array_equal(found[t, :, z], expected)


def test_channels_are_chosen_in_the_order_given(
    tmp_path: Path, random_model: Callable[..., Path]
) -> None:
    model = random_model(depth=2, channels=2)
    pixels = noise_image((3, 1, 200, 210))
    found = segment_one(tmp_path, pixels, model=model, channel="2,0", outputType="logits")
    expected = reference(model, pixels[[2, 0]], "float32", "logits")
    assert np.array_equal(found, expected)


class Wobbling(torch.nn.Module):
    """A network whose last bits depend on the shape of its input, as some kernels' do."""

    def __init__(self) -> None:
        super().__init__()
        self.network = random_unet(depth=2, base_width=4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(image)
        return logits * (1 + 1e-7 * (image.shape[-1] % 7))


def test_the_check_finds_a_network_that_is_not_bit_stable_and_claims_no_bits() -> None:
    tiling = plan((2000, 2000), unet_locality(2, 2), 512)
    found = check_bit_stability(EagerEngine(Wobbling().eval(), CPU, "float32"), tiling, 1)
    assert not found.equal
    assert found.different > 0
    assert 0 < found.largest_difference < 1e-5
    assert "NOT bit-stable" in found.sentence()


def test_the_check_finds_a_halo_that_is_too_small() -> None:
    network = random_unet(depth=2, base_width=4)
    claimed = unet_locality(1, 1)
    tiling = plan((2000, 2000), claimed, 512)
    found = check_bit_stability(make_engine(network, CPU, "float32"), tiling, 1)
    assert not found.equal


def test_a_single_window_needs_no_check_and_the_claim_says_why() -> None:
    tiling = plan((300, 300), unet_locality(2, 2), 512)
    engine = make_engine(random_unet(depth=2, base_width=4), CPU, "float32")
    found = check_bit_stability(engine, tiling, 1)
    assert (found.equal, found.compared) == (True, 0)
    assert "whole-image pass" in found.sentence()
