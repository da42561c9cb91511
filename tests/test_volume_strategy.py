"""Volumes by exchange: the bytes of tiles, networks without locality, and what auto chooses."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from conftest import noise_image, write_image
from program import arguments, call
from test_volumes import write_volume_model
from torch import Tensor, nn

from exactile.certificate import certificate_path
from exactile.fixed_order import FixedOrder
from exactile.job import make_job
from exactile.normalization import fit_array, normalize
from exactile.processing import ZScore
from exactile.settings import SegmentSettings
from exactile.strategy import preferred
from exactile.tiling import plan

NAME = "stack.ome.tif"
SHAPE = (45, 53, 61)
"""Z, Y, X: odd, so that F pads all of them."""
MEMORY = "64MB"
"""The least there may be: it holds a part of the feature maps of such networks at a time."""
BUDGET = 2**25
"""Bytes, for feature maps; the volume takes several parts."""


class Normalised(nn.Module):
    """A volumetric U-Net of two levels with instance norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.left, self.deep, self.right = self.block(1, 8), self.block(8, 8), self.block(16, 8)
        self.pool, self.up = nn.MaxPool3d(2), nn.ConvTranspose3d(8, 8, 2, stride=2)
        self.last = nn.Conv3d(8, 3, 1)

    @staticmethod
    def block(before: int, after: int) -> nn.Module:
        norm = nn.InstanceNorm3d(after, affine=True)
        return nn.Sequential(nn.Conv3d(before, after, 3, padding=1), norm, nn.LeakyReLU(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of three classes."""
        left = self.left(x)
        logits: Tensor = self.last(
            self.right(torch.cat([left, self.up(self.deep(self.pool(left)))], 1))
        )
        return logits


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stacks")
    write_image(folder / NAME, noise_image((1, 1, *SHAPE)))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volume_model(tmp_path_factory.mktemp("volumes") / "model", base_width=8)


@pytest.fixture(scope="module")
def without_locality(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "normalised.pt2"
    sides = dict.fromkeys((2, 3, 4), torch.export.Dim.DYNAMIC)
    program = torch.export.export(
        Normalised().eval(), (torch.zeros(1, 1, 16, 16, 16),), dynamic_shapes=(sides,)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
    return path


def run(stacks: Path, folder: Path, **options: object) -> None:
    ended = call(arguments(stacks, folder, **options))
    assert ended.code == 0, ended.log


def plan_of(folder: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(certificate_path(folder / NAME).read_bytes())["plan"]
    return made


@pytest.mark.parametrize("kind", [pytest.param("labels", marks=pytest.mark.slow), "logits"])
def test_tiles_and_exchange_write_the_same_file_of_a_stack(
    tmp_path: Path, stacks: Path, model: Path, kind: str
) -> None:
    common = {"model": model, "outputType": kind}
    run(stacks, tmp_path / "tile", strategy="tile", tileSize=28, **common)
    run(stacks, tmp_path / "exchange", strategy="exchange", memory=MEMORY, **common)
    assert (tmp_path / "tile" / NAME).read_bytes() == (tmp_path / "exchange" / NAME).read_bytes()
    plan = plan_of(tmp_path / "exchange")
    assert plan["strategy"] == "exchange"
    assert np.prod(plan["parts"]) > 1
    assert plan["axes"] == ["Z", "Y", "X"]


def test_a_network_for_volumes_without_locality_runs_as_one_pass(
    tmp_path: Path, stacks: Path, without_locality: Path
) -> None:
    run(stacks, tmp_path, model=without_locality, outputType="logits", memory=MEMORY)
    assert np.prod(plan_of(tmp_path)["parts"]) > 1
    volume = noise_image(SHAPE)[None]
    pixels = normalize(volume, fit_array((ZScore(),), volume))
    padded = np.pad(pixels, ((0, 0), (0, 1), (0, 1), (0, 1)), mode="reflect")
    with torch.inference_mode(), FixedOrder():
        whole = Normalised().eval()(torch.from_numpy(padded)[None])[0].numpy()
    whole = whole[:, : SHAPE[0], : SHAPE[1], : SHAPE[2]]
    found = tifffile.imread(tmp_path / NAME).reshape(whole.shape)
    # Means over all positions are added up part by part.
    assert np.abs(found - whole).max() / np.abs(whole).max() < 1e-5
    assert np.array_equal(found.argmax(0), whole.argmax(0))


def test_auto_takes_exchange_where_halos_of_a_volume_cost_too_much(model: Path) -> None:
    given = {"inpDir": "in", "outDir": "out", "model": model, "engine": "eager"}
    job = make_job(SegmentSettings.from_options(given))
    wide, narrow = (plan(SHAPE, job.model.locality, tile) for tile in (62, 28))
    assert preferred(job, SHAPE, wide, BUDGET) == ""
    # Windows of 28 for zones of 16.
    assert preferred(job, SHAPE, narrow, BUDGET).startswith("tiles would compute")
    assert "do not fit the memory" in preferred(job, SHAPE, None, BUDGET)


@pytest.mark.slow
def test_auto_goes_by_exchange_where_no_window_fits_the_memory(tmp_path: Path) -> None:
    deep = write_volume_model(tmp_path / "model", base_width=16, depth=2)
    write_image(tmp_path / "in" / NAME, noise_image((1, 1, 48, 112, 112)))
    ended = call(arguments(tmp_path / "in", tmp_path / "auto", model=deep, memory=MEMORY))
    assert ended.code == 0, ended.log
    assert "tiles with their halos do not fit the memory" in ended.log
    assert plan_of(tmp_path / "auto")["strategy"] == "exchange"
    words = {"model": deep, "memory": MEMORY, "strategy": "tile"}
    refused = call(arguments(tmp_path / "in", tmp_path / "refused", **words))
    assert refused.code != 0
    assert "are too little for this network" in refused.log
    run(tmp_path / "in", tmp_path / "ample", model=deep, memory="4GB", strategy="tile")
    files = [(tmp_path / name / NAME).read_bytes() for name in ("auto", "ample")]
    assert files[0] == files[1]
