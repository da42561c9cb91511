"""cwltool runs exactile.cwl, and the workflow that chains it, in the real container."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tifffile
from conftest import noise_image, write_image
from container_image import ROOT, description, environment
from program import arguments, finish, start

pytestmark = pytest.mark.container

NAME = "slide 1.ome.tif"
SHIM = """#!/bin/sh
# Podman that is run by root has no user namespace to keep, and refuses cwltool's --userns=keep-id.
for word; do
    shift
    [ "$word" = --userns=keep-id ] || set -- "$@" "$word"
done
exec {podman} "$@"
"""


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    write_image(tmp_path / "slides" / NAME, noise_image((500, 420)))
    return tmp_path / "slides"


@pytest.fixture
def labels(slides: Path, tmp_path: Path) -> bytes:
    """What this machine makes of it without a container."""
    ended = finish(start(arguments(slides, tmp_path / "host", engine="eager", tileSize=448)))
    assert ended.code == 0, ended.log
    return (tmp_path / "host" / NAME).read_bytes()


def cwltool(folder: Path, *words: object) -> dict[str, Any]:
    """Run cwltool with podman in `folder`, and return the outputs that it prints."""
    description()
    shim = folder / "bin" / "podman"
    shim.parent.mkdir()
    settings = environment()
    found = subprocess.run(["which", "podman"], check=True, capture_output=True, text=True).stdout
    shim.write_text(SHIM.format(podman=found.strip()))
    shim.chmod(0o755)
    settings["PATH"] = f"{shim.parent}:{Path(sys.executable).parent}:{settings['PATH']}"
    options = ("--podman", "--disable-pull", "--strict-memory-limit", "--outdir", folder / "out")
    done = subprocess.run(
        ["cwltool", *map(str, options), *map(str, words)],
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_the_tool_gives_the_bytes_of_a_run_without_a_container(
    slides: Path, labels: bytes, tmp_path: Path
) -> None:
    job = {
        "inpDir": {"class": "Directory", "location": str(slides)},
        "outDir": {"class": "Directory", "basename": "labels", "listing": []},
        "engine": "eager",
        "tileSize": "448",
        "preview": False,
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    made = cwltool(tmp_path, ROOT / "exactile.cwl", "job.json")
    assert made["segmented"]["basename"] == "labels"
    assert (tmp_path / "out" / "labels" / NAME).read_bytes() == labels


def test_the_workflow_measures_what_the_container_segmented(
    slides: Path, small_model: Path, tmp_path: Path
) -> None:
    workflow = ROOT / "examples" / "segment_features.cwl"
    cwltool(tmp_path, workflow, "--images", slides, "--model", small_model, "--tileSize", "64")
    objects = tifffile.imread(tmp_path / "out" / "objects" / NAME)
    with (tmp_path / "out" / "features.csv").open(newline="", encoding="utf-8") as table:
        measured = {int(row["ROI_label"]) for row in csv.DictReader(table)}
    assert measured == set(range(1, int(objects.max()) + 1))
    assert measured
