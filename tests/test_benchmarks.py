"""The benchmarks run in their smallest form; what they measure is not tested."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import bench
import budgets
import end_to_end
import file_io
import memory
import numpy as np
import peers
import pyramids
import pytest
import scaling
import torch
from peer_tools import RIM, Task, csbdeep, overlap_of, weights, whole

from exactile.geometry import Box
from exactile.images import Plane, open_source
from exactile.models.loading import load_model

SMALL = ["--width", "2", "--depth", "1", "--set", "tileSize=256"]


@pytest.fixture(autouse=True)
def _short_slides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making the synthetic pixels takes longest."""
    monkeypatch.setattr(bench, "PERIOD", 1)
    monkeypatch.setattr(file_io, "PERIOD", 1)


def table_in(text: str) -> dict[str, list[str]]:
    """Return the last table's cells by the first one of each row."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


@pytest.mark.parametrize(
    "main",
    [m.main for m in (budgets, end_to_end, file_io, memory, peers, pyramids, scaling)],
    ids=lambda m: m.__module__,
)
def test_help_says_what_is_measured(
    main: Callable[[list[str]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "--size" in capsys.readouterr().out


@pytest.mark.slow
def test_end_to_end_compares_a_run_with_its_passes(capsys: pytest.CaptureFixture[str]) -> None:
    end_to_end.main(["--size", "400", "--engine", "eager", "--repeats", "1", *SMALL])
    found = table_in(capsys.readouterr().out)
    assert found["bare forward passes"][-1] == "1.000"
    assert float(found["the whole run"][-1]) > float(found["the run without start-up"][-1])


def test_scaling_compares_each_size_with_the_runs_beside_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter([99.0, 11.0, 21.0, 13.0])
    plan = {"windows": 1, "window": [256, 256], "computed_ratio": 1.0}
    monkeypatch.setattr(
        scaling, "run_exactile", lambda *_: bench.Run(next(seconds), 1.0, 100.0, plan, "eager")
    )
    scaling.main(["--base", "300", "--sizes", "500x300", *SMALL])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[4:]]
    assert [row[0] for row in rows] == ["300 x 300", "500 x 300", "300 x 300"]
    # 20 s for 5/3 of the pixels, between 10 s and 12 s.
    assert [float(rows[1][i]) for i in (7, 8, 10)] == [round(12 / 11, 3), round(12 / 11, 3), 1.0]


@pytest.mark.slow
def test_budgets_are_compared_with_what_a_run_takes_beyond_its_base(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--size", "600", "--budgets", "1GB", "--engine", "eager", *SMALL[:4]]
    budgets.main(words)
    rows = [line for line in capsys.readouterr().out.splitlines() if "1GB" in line]
    assert [row.split(" | ")[-1].strip(" |") for row in rows] == ["yes", "yes"]


@pytest.mark.slow
def test_peers_counts_labels_that_differ_from_the_whole_image(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--size", "400", "--rounds", "1", "--tools", "exactile:eager", "whole", *SMALL]
    peers.main(words)
    found = table_in(capsys.readouterr().out)
    assert found["exactile:eager"][-1] == "0"
    assert found["whole"][-1] == "the reference"


def test_peers_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="csbdeep, monai cannot be imported; pip install"):
        peers.check_packages(["exactile:eager", "csbdeep", "monai-rims"], [])


def test_file_io_reads_each_tile_once_in_a_run_s_order(capsys: pytest.CaptureFixture[str]) -> None:
    file_io.main(["--size", "2048x1024", "--compressions", "deflate", "--rounds", "1"])
    out = capsys.readouterr().out
    lines = [line.strip("| ").split(" | ") for line in out.splitlines() if "deflate" in line]
    assert [line[5] for line in lines] == ["1.00"] * 4
    assert table_in(out)["probabilities"][0] == "17"


@pytest.mark.slow
def test_pyramids_make_files_larger(capsys: pytest.CaptureFixture[str]) -> None:
    pyramids.main(["--sizes", "2048x1030"])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    sizes = [float(row[3]) for row in rows if row[:2] == ["2048 x 1030", "probabilities"]]
    assert 1.1 < sizes[1] / sizes[0] < 1.34


def test_a_slide_holds_the_synthetic_pixels_wherever_it_is_cut(tmp_path: Path) -> None:
    bench.make_slide(tmp_path / "slide.ome.tif", (1100, 1030))
    piece = bench.pieces(1)[0, 0]
    with open_source(tmp_path / "slide.ome.tif") as source:
        pixels = source.read(Plane(0, 0), (0,), Box.of_shape(source.shape))[0]
    assert np.array_equal(pixels[:1024, :1024], piece)
    assert np.array_equal(pixels[1024:, 1024:], piece[:76, :6])


def small_task(folder: Path, package: object = None) -> Task:
    bench.make_model(folder, 2, 1)
    model = load_model(folder, None)
    return Task(model, model.network, (64, 64), (48, 48), package)


def test_sizes_are_width_by_height() -> None:
    assert bench.shape_of("32768x16384") == (16384, 32768)
    assert bench.shape_of("8192") == (8192, 8192)


def test_monai_s_windows_follow_one_another_by_a_zone(tmp_path: Path) -> None:
    task = small_task(tmp_path / "model")
    sides = zip(task.window, overlap_of(task), strict=True)
    assert [int(window * (1 - overlap)) for window, overlap in sides] == [48, 48]


def test_rims_weigh_a_power_of_two_that_rounds_nothing(tmp_path: Path) -> None:
    weight = weights(small_task(tmp_path / "model"), RIM)
    assert weight[32, 32] == 1
    assert weight[0, 32] == RIM
    assert weight[0, 0] == RIM**2
    assert weight[0, 0] > torch.finfo(torch.float32).tiny


def test_csbdeep_s_tiles_give_the_labels_of_the_whole_image(tmp_path: Path) -> None:
    package = pytest.importorskip("csbdeep.internals.predict")
    task = small_task(tmp_path / "model", package)
    image = np.random.default_rng(0).standard_normal((1, 160, 192), dtype=np.float32)
    with torch.inference_mode():
        assert np.array_equal(csbdeep(task, image), whole(task, image))
