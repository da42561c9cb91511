"""The example model of bioimage.io through files: its own test output, and exact tiles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from conftest import noise_image, write_image
from program import arguments, call

from exactile.engines.eager import make_engine
from exactile.models.loading import load_model
from exactile.reference import whole_image_pass

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def nuclei(shared: Path) -> Path:
    return shared / "data" / "unet2d_nuclei_broad"


def test_its_own_test_output_is_reproduced_through_files(nuclei: Path, tmp_path: Path) -> None:
    image = np.load(nuclei / "test_input.npy")[0]
    write_image(tmp_path / "in" / "a.ome.tif", image.astype(np.float32))
    options = {"model": nuclei, "outputType": "probabilities"}
    ended = call(arguments(tmp_path / "in", tmp_path / "out", **options))
    assert ended.code == 0, ended.log
    found = tifffile.imread(tmp_path / "out" / "a.ome.tif")
    expected = np.load(nuclei / "test_output.npy")[0, 0]
    assert np.abs(found - expected).max() <= 1e-5


@pytest.mark.parametrize(
    "output",
    ["labels", *(pytest.param(o, marks=pytest.mark.slow) for o in ("logits", "probabilities"))],
)
def test_tiles_have_the_bits_of_the_whole_image(nuclei: Path, tmp_path: Path, output: str) -> None:
    pixels = noise_image((1003, 1301))
    write_image(tmp_path / "in" / "a.ome.tif", pixels)
    options = {"model": nuclei, "outputType": output, "tileSize": 512, "verify": 2}
    ended = call(arguments(tmp_path / "in", tmp_path / "out", **options))
    assert ended.code == 0, ended.log
    model = load_model(nuclei)
    engine = make_engine(model.network, CPU, "float32")
    expected = whole_image_pass(engine, model, pixels[None], output)  # type: ignore[arg-type]
    found = tifffile.imread(tmp_path / "out" / "a.ome.tif").reshape(expected.shape)
    assert np.array_equal(found, expected)
    certificate = json.loads((tmp_path / "out/certificates/a.ome.tif.json").read_text())
    assert certificate["model"]["declared_halo"] == [32, 32]
    assert certificate["model"]["format"] == "bioimage.io"
    assert certificate["bit_stability"]["equal"]


def test_the_onnx_weights_give_the_labels_of_the_torchscript_ones(
    nuclei: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "in" / "a.ome.tif", noise_image((400, 500)))
    found = []
    for name, options in {
        "description": {"model": nuclei},
        "onnx": {"model": nuclei / "weights.onnx", "normalization": "zscore"},
    }.items():
        ended = call(arguments(tmp_path / "in", tmp_path / name, **options))
        assert ended.code == 0, ended.log
        found.append(tifffile.imread(tmp_path / name / "a.ome.tif"))
        assert "def forward" not in capfd.readouterr().err
    assert np.array_equal(*found)
