"""Tiles or exchange: the same bits, networks without locality, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import tifffile
import torch
from conftest import noise_image, random_unet, write_image
from hypothesis import given
from hypothesis import strategies as st
from program import arguments, call, files_in
from torch import Tensor, nn

from exactile.certificate import certificate_path
from exactile.errors import PlanError
from exactile.fixed_order import FixedOrder
from exactile.job import make_job
from exactile.normalization import fit_array, normalize
from exactile.partition.outofcore import STEPS_AT_ONCE, choose_parts
from exactile.partition.shelf import FileShelf
from exactile.processing import ZScore
from exactile.settings import SegmentSettings
from exactile.strategy import preferred
from exactile.tiling import plan

SHAPE = (1101, 903)


class Normalised(nn.Module):
    """A U-Net of two levels with instance norm, and a gate by the mean over all positions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.left, self.deep, self.right = self.block(1, 4), self.block(4, 6), self.block(8, 4)
        self.pool, self.up = nn.MaxPool2d(2), nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.gate, self.last = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 3, 1)

    @staticmethod
    def block(before: int, after: int) -> nn.Module:
        norm = nn.InstanceNorm2d(after, affine=True)
        return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), norm, nn.LeakyReLU(0.1))

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(x)
        x = self.right(torch.cat([left, self.up(self.deep(self.pool(left)))], 1))
        return self.last(x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True))))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_image(folder / "a.ome.tif", noise_image(SHAPE))
    return folder


@pytest.fixture(scope="module")
def without_locality(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "normalised.pt2"
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(
        Normalised().eval(), (torch.zeros(1, 1, 32, 32),), dynamic_shapes=(sides,)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
    return path


def certificate(folder: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(certificate_path(folder / "a.ome.tif").read_bytes())
    return made


@pytest.mark.parametrize("kind", ["labels", "logits"])
def test_tiles_and_exchange_write_the_same_bits(
    tmp_path: Path, images: Path, small_model: Path, kind: str
) -> None:
    common = {"model": small_model, "outputType": kind}
    for name, options in {
        "tile": {"strategy": "tile", "tileSize": 512},
        "exchange": {"strategy": "exchange", "memory": "64MB"},
    }.items():
        ended = call(arguments(images, tmp_path / name, **common, **options))
        assert ended.code == 0, ended.log
    made = [tifffile.imread(tmp_path / name / "a.ome.tif") for name in ("tile", "exchange")]
    assert np.array_equal(*made)
    record = certificate(tmp_path / "exchange")
    assert record["plan"]["strategy"] == "exchange"
    assert np.prod(record["plan"]["parts"]) > 1
    assert "exchanged their halos" in record["claim"]
    assert certificate(tmp_path / "tile")["plan"]["strategy"] == "tile"


def test_a_network_without_locality_runs_by_exchange_as_one_pass_over_the_image(
    tmp_path: Path, images: Path, without_locality: Path
) -> None:
    options = {"model": without_locality, "outputType": "logits", "memory": "64MB"}
    ended = call(arguments(images, tmp_path, **options))
    assert ended.code == 0, ended.log
    assert "by exchange, for the network has no locality" in ended.log
    image = noise_image(SHAPE)[None]
    steps = fit_array((ZScore(),), image)
    padded = np.pad(normalize(image, steps), ((0, 0), (0, 1), (0, 1)), mode="reflect")
    with torch.inference_mode(), FixedOrder():
        whole = Normalised().eval()(torch.from_numpy(padded)[None])[0, :, : SHAPE[0], : SHAPE[1]]
    found = torch.from_numpy(tifffile.imread(tmp_path / "a.ome.tif"))
    # Means over all positions are added up part by part.
    assert float((found - whole).abs().max() / whole.abs().max()) < 1e-5
    assert torch.equal(found.argmax(0), whole.argmax(0))
    record = certificate(tmp_path)
    assert np.prod(record["plan"]["parts"]) > 1
    assert [axis["halo"] for axis in record["model"]["locality"]["axes"]] == [None, None]
    report = (tmp_path / "exactile/report.html").read_text(encoding="utf-8")
    assert "one pass in parts" in report
    assert "it looks at the whole extent" in report


def test_tiles_are_refused_without_locality_and_the_message_names_exchange(
    tmp_path: Path, images: Path, without_locality: Path
) -> None:
    ended = call(arguments(images, tmp_path, model=without_locality, strategy="tile"))
    assert ended.code != 0
    (error,) = ended.errors
    assert "cannot be run in exact tiles: aten." in error
    assert error.endswith("it runs by exchange: use --strategy auto or exchange")
    assert not files_in(tmp_path)


def test_inspect_says_that_a_refused_network_runs_by_exchange(without_locality: Path) -> None:
    found = json.loads(call(["inspect", "--model", str(without_locality), "--json"]).out)
    assert not found["local"]
    assert found["exchange"] == {"alignment": [2, 2], "objection": ""}
    assert "run it; F = 2 x 2 px" in call(["inspect", "--model", str(without_locality)]).out


def test_what_runs_neither_way_says_why_twice(tmp_path: Path, images: Path) -> None:
    scripted = torch.jit.script(Normalised().eval())
    scripted.save(str(tmp_path / "normalised.pt"))
    ended = call(arguments(images, tmp_path / "out", model=tmp_path / "normalised.pt"))
    assert ended.code != 0
    assert "cannot be run in exact tiles" in ended.errors[0]
    assert "TorchScript runs past the rules of exchange; export" in ended.errors[0]


@pytest.mark.parametrize("option", [{"verify": 2}, {"tileSize": 512}])
def test_options_for_windows_are_refused_by_exchange(
    tmp_path: Path, images: Path, small_model: Path, option: dict[str, int]
) -> None:
    ended = call(
        arguments(images, tmp_path, **{"model": small_model, "strategy": "exchange"} | option)
    )
    assert ended.code != 0
    assert f"leave --{next(iter(option))} out" in ended.errors[0]


def test_another_engine_than_eager_is_refused_by_exchange(
    tmp_path: Path, images: Path, small_model: Path
) -> None:
    options = {"model": small_model, "strategy": "exchange", "engine": "compile"}
    ended = call(arguments(images, tmp_path, **options))
    assert ended.code != 0
    assert "leave --engine out" in ended.errors[0]


def test_a_full_disk_leaves_one_message_and_nothing_else(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: FileShelf, _: object) -> NoReturn:
        raise self._refused(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    monkeypatch.setattr(FileShelf, "put", full)
    write_image(tmp_path / "in" / "image.ome.tif", noise_image((2048, 2048)))
    options = {"model": small_model, "strategy": "exchange", "memory": "64MB"}
    ended = call(arguments(tmp_path / "in", tmp_path / "out", **options))
    assert ended.code != 0
    assert any("No space left on device; make room on its disk" in line for line in ended.errors)
    assert not [name for name in files_in(tmp_path / "out") if not name.startswith("exactile/")]


def test_auto_leaves_planes_in_tiles_where_those_fit(small_model: Path) -> None:
    given = {"inpDir": "in", "outDir": "out", "model": small_model, "engine": "eager"}
    job = make_job(SegmentSettings.from_options(given))
    budget = 2**26
    wide, narrow = (plan(SHAPE, job.model.locality, tile) for tile in (1104, 16))
    assert preferred(job, SHAPE, wide, budget) == ""
    # As shards of them are, which give the same bytes.
    assert preferred(job, SHAPE, narrow, budget) == ""
    assert "do not fit the memory" in preferred(job, SHAPE, None, budget)
    # What the user asks for is what is done.
    asked = make_job(SegmentSettings.from_options(given | {"strategy": "tile"}))
    assert preferred(asked, SHAPE, None, budget) == ""


@given(
    st.lists(st.tuples(st.integers(1, 60), st.sampled_from([1, 2, 4, 8])), min_size=1, max_size=3),
    st.integers(1, 10**9),
    st.integers(1, 10**9),
)
def test_parts_are_on_the_grid_and_small_enough(
    axes: list[tuple[int, int]], step: int, budget: int
) -> None:
    extent, alignment = tuple(n * f for n, f in axes), tuple(f for _, f in axes)
    try:
        parts = choose_parts(extent, alignment, step, budget)
    except PlanError:
        assert STEPS_AT_ONCE * step > budget
        return
    for cuts, side, f in zip(parts.cuts, extent, alignment, strict=True):
        assert cuts[0] == 0
        assert cuts[-1] == side
        assert all(a < b and a % f == 0 for a, b in pairwise(cuts))
    assert parts.count * budget >= STEPS_AT_ONCE * step


def test_weights_are_not_part_of_what_operators_read() -> None:
    from exactile.memory.step import step_bytes

    network = random_unet(channels=1, classes=2, base_width=4, depth=1, convolutions=1)
    small, large = (step_bytes(network, 1, (side, 64)) for side in (64, 128))
    assert large[0] == 2 * small[0]
    # Two maps of 4 channels joined to one of 8.
    assert small[0] == 16 * 64 * 64 * 4
