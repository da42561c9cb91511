"""Real images: the fields that the papers worked on, one by one and as large mosaics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from conftest import write_image
from numpy.typing import NDArray

from exactile.engines.eager import make_engine
from exactile.models.loading import BUNDLED, load_model
from exactile.reference import whole_image_pass
from exactile.report.progress import LogWatcher
from exactile.segment import segment_collection
from exactile.settings import SegmentSettings


def segment(inp_dir: Path, out_dir: Path, **options: Any) -> None:
    options = {"inpDir": inp_dir, "outDir": out_dir, "engine": "eager", **options}
    settings = SegmentSettings.from_options(options)
    assert all(not result.error for result in segment_collection(settings, LogWatcher()))


def reference(pixels: NDArray[Any], output: str = "labels") -> NDArray[Any]:
    model = load_model(BUNDLED)
    engine = make_engine(model.network, torch.device("cpu"), "float32")
    return whole_image_pass(engine, model, pixels[None], output)  # type: ignore[arg-type]


def dice(found: NDArray[Any], truth: NDArray[Any]) -> float:
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


@pytest.mark.slow
def test_all_fields_equal_the_reference_and_reach_the_published_quality(
    shared: Path, tmp_path: Path
) -> None:
    fields = shared / "data/stem_cells"
    segment(fields / "images", tmp_path, filePattern=r".*\.tif")
    names = sorted(path.name for path in (fields / "images").iterdir())
    found, truth = [], []
    for name in names:
        pixels = tifffile.imread(fields / "images" / name)
        labels = tifffile.imread(tmp_path / name.replace(".tif", ".ome.tif"))
        assert np.array_equal(labels, reference(pixels)[0])
        found.append(labels == 1)
        truth.append(tifffile.imread(fields / "masks" / name) == 1)
    assert len(names) == 80
    assert dice(np.stack(found), np.stack(truth)) >= 0.96
    assert np.mean([dice(f, t) for f, t in zip(found, truth, strict=True)]) >= 0.88


def mosaic(shared: Path, shape: tuple[int, int]) -> NDArray[np.uint16]:
    """Fields side by side, repeated as often as needed, as different in brightness as they are."""
    paths = sorted((shared / "data/stem_cells/images").iterdir())
    fields = [tifffile.imread(path) for path in paths]
    rows, columns = (-(-side // 256) for side in shape)
    grid = [
        np.concatenate([fields[(i * columns + j) % len(fields)] for j in range(columns)], axis=1)
        for i in range(rows)
    ]
    return np.concatenate(grid)[: shape[0], : shape[1]]


@pytest.mark.slow
def test_a_mosaic_of_fields_equals_the_reference(shared: Path, tmp_path: Path) -> None:
    pixels = mosaic(shared, (1300, 1500))
    write_image(tmp_path / "in/mosaic.ome.tif", pixels)
    segment(tmp_path / "in", tmp_path / "out", tileSize=512)
    found = tifffile.imread(tmp_path / "out/mosaic.ome.tif")
    assert np.array_equal(found, reference(pixels)[0])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(4000, 5000), (3001, 2777)])
def test_large_mosaics_equal_the_reference_bit_for_bit(
    shared: Path, tmp_path: Path, shape: tuple[int, int]
) -> None:
    pixels = mosaic(shared, shape)
    write_image(tmp_path / "in/mosaic.ome.tif", pixels)
    segment(tmp_path / "in", tmp_path / "logits", outputType="logits")
    segment(tmp_path / "in", tmp_path / "labels", tileSize=512)
    segment(tmp_path / "in", tmp_path / "again", tileSize=1216)
    expected = reference(pixels, "logits")
    assert np.array_equal(tifffile.imread(tmp_path / "logits/mosaic.ome.tif"), expected)
    labels = tifffile.imread(tmp_path / "labels/mosaic.ome.tif")
    assert np.array_equal(labels, expected.argmax(0))
    first, second = (tmp_path / name / "mosaic.ome.tif" for name in ("labels", "again"))
    assert first.read_bytes() == second.read_bytes()
