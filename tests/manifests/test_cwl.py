"""exactile.cwl and the workflow that chains it: valid, and run by cwltool, without a container."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from conftest import noise_image, write_image
from program import arguments, call, files_in

ROOT = Path(__file__).parents[2]
CWLTOOL = Path(sys.executable).with_name("cwltool")


def cwltool(*words: object, cwd: Path) -> dict[str, Any]:
    """Run cwltool, and return the outputs that it prints."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [str(CWLTOOL), "--no-container", "--preserve-environment", "PYTHONPATH", "--quiet"]
        + [str(word) for word in words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    outputs: dict[str, Any] = json.loads(done.stdout)
    return outputs


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A copy of the tools in which the command takes the place of the container's ENTRYPOINT."""
    tool = yaml.safe_load((ROOT / "exactile.cwl").read_text(encoding="utf-8"))
    del tool["requirements"]["DockerRequirement"]
    tool["baseCommand"] = [sys.executable, "-m", "exactile", "segment"]
    (tmp_path / "exactile.cwl").write_text(yaml.safe_dump(tool), encoding="utf-8")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


@pytest.mark.parametrize(
    "path",
    ["exactile.cwl", *sorted(f"examples/{p.name}" for p in (ROOT / "examples").glob("*.cwl"))],
)
def test_every_document_is_valid(path: str) -> None:
    done = subprocess.run(
        [str(CWLTOOL), "--validate", "--strict", path], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_the_command_is_left_to_the_containers_entrypoint() -> None:
    tool = yaml.safe_load((ROOT / "exactile.cwl").read_text(encoding="utf-8"))
    assert "baseCommand" not in tool
    assert tool["requirements"]["DockerRequirement"]["dockerPull"].startswith("exactile/exactile:")


def test_a_run_by_cwltool_gives_the_bytes_of_a_run_from_the_shell(
    host: Path, small_model: Path, tmp_path: Path
) -> None:
    write_image(tmp_path / "slides" / "slide 1 é.ome.tif", noise_image((300, 420)))
    job = {
        "inpDir": {"class": "Directory", "location": "slides"},
        "outDir": {"class": "Directory", "basename": "labels", "listing": []},
        "model": {"class": "Directory", "location": str(small_model)},
        "engine": "eager",
        "tileSize": "64",
        "verify": 1,
        "resume": "true",
        "preview": False,
    }
    (host / "job.json").write_text(json.dumps(job), encoding="utf-8")
    made = cwltool("--outdir", "out", "exactile.cwl", "job.json", cwd=host)["segmented"]
    assert made["basename"] == "labels"
    shell = call(arguments(tmp_path / "slides", tmp_path / "shell", model=small_model, tileSize=64))
    assert shell.code == 0
    labels = Path("labels", "slide 1 é.ome.tif")
    assert (host / "out" / labels).read_bytes() == (tmp_path / "shell" / labels.name).read_bytes()
    assert tifffile.imread(host / "out" / labels).any()


@pytest.mark.slow
def test_the_workflow_segments_and_measures_every_object(
    host: Path, small_model: Path, tmp_path: Path
) -> None:
    """Each row of nyxus is an object of the labels, with its pixels' number and mean."""
    image = noise_image((300, 420))
    write_image(tmp_path / "slides" / "slide_1.ome.tif", image)
    tool = "examples/segment_features.cwl"
    words = ("--images", "slides", "--model", small_model, "--tileSize", "64")
    made = cwltool("--outdir", "out", tool, *words, cwd=host)
    assert set(made) == {"labels", "objects", "features"}
    labels = tifffile.imread(host / "out" / "labels" / "slide_1.ome.tif")
    objects = tifffile.imread(host / "out" / "objects" / "slide_1.ome.tif")
    assert ((objects > 0) == (labels > 0)).all()
    with (host / "out" / "features.csv").open(newline="", encoding="utf-8") as table:
        rows = {int(row["ROI_label"]): row for row in csv.DictReader(table)}
    areas = np.bincount(objects.ravel())
    sums = np.bincount(objects.ravel(), image.ravel())
    assert len(rows) > 3
    assert set(rows) == set(range(1, len(areas)))
    for number, row in rows.items():
        assert float(row["AREA_PIXELS_COUNT"]) == areas[number]
        assert float(row["MEAN"]) == pytest.approx(sums[number] / areas[number], rel=1e-6)


@pytest.fixture
def label(tmp_path: Path) -> Callable[[Path], subprocess.CompletedProcess[str]]:
    def run(folder: Path) -> subprocess.CompletedProcess[str]:
        script = ROOT / "examples" / "label_objects.py"
        words = [sys.executable, script, "--inpDir", folder, "--outDir", tmp_path / "objects"]
        return subprocess.run(words, capture_output=True, text=True)

    return run


def test_a_region_across_bands_of_rows_is_one_object_and_classes_stay_apart(
    label: Callable[[Path], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """A letter U is two regions in the first band, and is joined in the second."""
    classes = np.zeros((2100, 50), np.uint8)
    classes[900:2000, 5:10] = classes[900:2000, 20:25] = 1
    classes[1990:2000, 5:25] = 1
    classes[1000:1100, 10:20] = 2
    classes[2090:, 40:] = 2
    write_image(tmp_path / "labels" / "a.ome.tif", classes)
    assert label(tmp_path / "labels").returncode == 0
    objects = tifffile.imread(tmp_path / "objects" / "a.ome.tif")
    assert objects.dtype == np.uint32
    expected = np.zeros_like(objects)
    expected[classes == 1] = 1
    expected[1000:1100, 10:20] = 2
    expected[2090:, 40:] = 3
    assert (objects == expected).all()


def test_probabilities_have_no_objects(
    label: Callable[[Path], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    write_image(tmp_path / "labels" / "a.ome.tif", np.zeros((2, 1, 30, 40), np.float32))
    done = label(tmp_path / "labels")
    assert done.returncode == 1
    assert "2 channels of float32, not one of class numbers" in done.stderr
    assert files_in(tmp_path / "objects") == []
