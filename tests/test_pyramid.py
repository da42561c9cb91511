"""`--pyramid`: results with smaller levels, and the runs that have to do with them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import noise_image, write_image
from program import Ended, arguments, call, files_in, finish, results_in, start

from exactile.cli import plain_booleans
from exactile.images.downsampling import halve

NAME = "image.ome.tif"
SHAPE = (1100, 1060)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the image, in in/."""
    write_image(tmp_path / "in" / NAME, noise_image(SHAPE))
    return tmp_path


def run(folder: Path, model: Path, *rest: str, out: str = "out", **options: object) -> Ended:
    options = {"tileSize": 512, "model": model, **options}
    ended = call(arguments(folder / options.pop("images", "in"), folder / out, *rest, **options))
    assert ended.code == 0, ended.log
    return ended


def levels(path: Path) -> list[np.ndarray]:
    with tifffile.TiffFile(path) as tiff:
        return [level.asarray() for level in tiff.series[0].levels]


@pytest.mark.parametrize(
    ("output", "how"), [("labels", "mode"), ("probabilities", "mean"), ("logits", "mean")]
)
def test_each_level_is_the_one_before_halved(
    folder: Path, small_model: Path, output: str, how: str
) -> None:
    run(folder, small_model, "--pyramid", outputType=output)
    run(folder, small_model, out="plain", outputType=output)
    full, half = levels(folder / "out" / NAME)
    np.testing.assert_array_equal(full, tifffile.imread(folder / "plain" / NAME))
    np.testing.assert_array_equal(half, halve(full, how))  # type: ignore[arg-type]
    assert len(levels(folder / "plain" / NAME)) == 1


@pytest.mark.parametrize(
    "words",
    [["--pyramid"], ["--pyramid", "true"], ["--pyramid", "True"], ["--pyramid=True"]],
    ids=" ".join,
)
def test_engines_may_ask_for_it_in_all_forms(words: list[str]) -> None:
    assert plain_booleans([*words, "--inpDir", "in"]) == ["--pyramid", "--inpDir", "in"]
    assert plain_booleans([words[0].partition("=")[0], "False"]) == []


def test_results_without_levels_are_made_again_with_them(folder: Path, small_model: Path) -> None:
    run(folder, small_model)
    ended = run(folder, small_model, "--pyramid")
    assert f"{NAME}: is there, and is made again: --pyramid was false, and is true" in ended.log
    certificate = json.loads((folder / "out" / "certificates" / f"{NAME}.json").read_text())
    assert certificate["settings"]["pyramid"] is True
    assert certificate["plan"]["zones_run"] > 0
    before = (folder / "out" / NAME).stat().st_mtime_ns
    run(folder, small_model, "--pyramid")
    assert (folder / "out" / NAME).stat().st_mtime_ns == before


def test_a_run_that_is_killed_among_the_levels_goes_on_to_the_same_bytes(
    folder: Path, small_model: Path
) -> None:
    kill = """
import os, signal
from exactile.images import spooled_levels
store = spooled_levels._store
def store_and_die(*what):
    store(*what)
    os.kill(os.getpid(), signal.SIGKILL)
spooled_levels._store = store_and_die
"""
    words = arguments(
        folder / "in",
        folder / "out",
        "--pyramid",
        tileSize=512,
        model=small_model,
        outputType="probabilities",
    )
    ended = finish(start(words, kill))
    assert ended.code == -signal.SIGKILL, ended.log
    assert any("level-1" in name for name in files_in(folder / "out"))
    ended = run(folder, small_model, "--pyramid", outputType="probabilities")
    certificate = json.loads((folder / "out" / "certificates" / f"{NAME}.json").read_text())
    assert certificate["plan"]["zones_run"] == 0
    assert results_in(folder / "out") == [f"certificates/{NAME}.json", NAME]
    run(folder, small_model, "--pyramid", out="clean", outputType="probabilities")
    assert (folder / "out" / NAME).read_bytes() == (folder / "clean" / NAME).read_bytes()


def test_a_result_with_levels_is_an_image_for_the_next_run(folder: Path, small_model: Path) -> None:
    """The digest differs, and the pixels do not."""
    run(folder, small_model, "--pyramid", out="with")
    run(folder, small_model, out="without")
    for first in ("with", "without"):
        run(folder, small_model, images=first, out=f"next-{first}")
    found = [(folder / f"next-{first}" / NAME).read_bytes() for first in ("with", "without")]
    assert found[0] == found[1]
