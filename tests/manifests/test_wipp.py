"""Arguments as WIPP sends them: every input of plugin.json, two items each, all of it text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import noise_image, write_image
from program import arguments, call, files_in

ROOT = Path(__file__).parents[2]
MANIFEST = json.loads((ROOT / "plugin.json").read_text(encoding="utf-8"))
DEFAULTS = {e["key"].removeprefix("inputs."): e.get("default", "") for e in MANIFEST["ui"]}
NAMES = ("slide 1.ome.tif", "slide 2 é.ome.tif", "slide_3.ome.tif")


def words_of_wipp(folder: Path, out_dir: Path, **chosen: object) -> list[str]:
    """The defaults of the form where nothing is chosen; what has none is blank."""
    values = DEFAULTS | {"inpDir": folder, "outDir": out_dir} | chosen
    words = ["segment"]
    for name, value in values.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        words += [f"--{name}", text]
    return words


@pytest.fixture
def chained(tmp_path: Path) -> Path:
    """The raw output folder of an earlier step: the images are in its folder `images`."""
    for seed, name in enumerate(NAMES):
        write_image(tmp_path / "step" / "images" / name, noise_image((60, 90), seed))
    (tmp_path / "step" / "metadata").mkdir()
    (tmp_path / "step" / "metadata" / "log.txt").write_text("of the step", encoding="utf-8")
    return tmp_path / "step"


def test_a_form_left_as_it_is_gives_what_no_options_give(
    chained: Path, small_model: Path, tmp_path: Path
) -> None:
    chosen = {"model": small_model, "tileSize": 32, "engine": "eager"}
    assert call(words_of_wipp(chained, tmp_path / "wipp", **chosen)).code == 0
    plain = arguments(chained, tmp_path / "plain", model=small_model, tileSize=32)
    assert call(plain).code == 0
    for name in NAMES:
        ours, theirs = (tifffile.imread(tmp_path / out / name) for out in ("wipp", "plain"))
        assert np.array_equal(ours, theirs)
    top = [path.name for path in (tmp_path / "wipp").iterdir() if path.is_file()]
    assert sorted(top) == sorted(NAMES)


@pytest.mark.parametrize("flag", ["true", "True", True])
def test_a_preview_names_the_results_of_all_images_and_makes_none(
    flag: object, chained: Path, tmp_path: Path
) -> None:
    assert call(words_of_wipp(chained, tmp_path / "out", preview=flag)).code == 0
    assert files_in(tmp_path / "out") == ["preview.json"]
    listed = json.loads((tmp_path / "out" / "preview.json").read_text(encoding="utf-8"))
    assert listed == {"filePattern": DEFAULTS["filePattern"], "outDir": sorted(NAMES)}
