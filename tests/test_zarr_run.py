"""Runs that read OME-Zarr, or write it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from conftest import noise_image, write_image
from program import Ended, arguments, call, files_in, results_in

from exactile.forward import ForwardPass
from exactile.geometry import Box
from exactile.images import OutputImage, Plane, open_sink
from exactile.images.digest import FileDigest
from exactile.images.work_folder import work_folder

TIFF, ZARR = "image.ome.tif", "image.ome.zarr"
PIXELS = noise_image((1100, 1060))
WINDOW = 528


def run(folder: Path, model: Path, out: str = "out", extension: str = "") -> Ended:
    words = arguments(folder / "in", folder / out, model=model, tileSize=WINDOW)
    return call(words, POLUS_IMG_EXT=extension)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_image(tmp_path / "in" / TIFF, PIXELS)
    return tmp_path


def write_zarr(path: Path) -> None:
    path.parent.mkdir(parents=True)
    image = OutputImage(PIXELS.shape, PIXELS.dtype)
    with open_sink(path, image) as sink:
        sink.write(Plane(), Box.of_shape(image.shape), PIXELS[None])


def test_the_container_of_input_and_output_changes_no_pixel(
    folder: Path, small_model: Path
) -> None:
    write_zarr(folder / "zarr" / "in" / ZARR)
    assert run(folder, small_model).code == 0
    assert run(folder, small_model, "as_zarr", ".ome.zarr").code == 0
    assert run(folder / "zarr", small_model).code == 0
    assert run(folder / "zarr", small_model, "as_tiff", ".ome.tif").code == 0
    expected = tifffile.imread(folder / "out" / TIFF)
    assert expected.any()
    np.testing.assert_array_equal(expected, tifffile.imread(folder / "zarr" / "as_tiff" / TIFF))
    for path in (folder / "as_zarr" / ZARR, folder / "zarr" / "out" / ZARR):
        group = zarr.open_group(path, mode="r")
        np.testing.assert_array_equal(group["0"][0, 0, 0], expected)
        names = [each["class"] for each in group.attrs["image-label"]["properties"]]
        assert names == ["class 0", "class 1"]
        found = json.loads((path.parent / "certificates" / f"{ZARR}.json").read_text())
        assert FileDigest(**found["file"]).is_of(path)


def test_an_interrupted_zarr_is_gone_on_with_and_a_finished_one_is_left_alone(
    folder: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(folder, small_model, "clean", ".ome.zarr").code == 0
    begun, start = [0], ForwardPass.start

    def stumble(self: ForwardPass, *rest: object) -> object:
        begun[0] += 1
        if begun[0] == 8:
            raise RuntimeError("the network stumbles")
        return start(self, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(ForwardPass, "start", stumble)
        assert run(folder, small_model, extension=".ome.zarr").code == 1
    path = folder / "out" / ZARR
    assert not path.exists()
    assert (work_folder(path) / "whole" / "0").is_dir()
    ended = run(folder, small_model, extension=".ome.zarr")
    assert ended.code == 0
    assert "goes on from" in ended.log
    assert FileDigest.of(path) == FileDigest.of(folder / "clean" / ZARR)
    before = {
        name: (folder / "out" / name).stat().st_mtime_ns for name in results_in(folder / "out")
    }
    assert "already done" in run(folder, small_model, extension=".ome.zarr").log
    after = {
        name: (folder / "out" / name).stat().st_mtime_ns for name in results_in(folder / "out")
    }
    assert after == before
    chunk = path / "1" / "0" / "0" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    ended = run(folder, small_model, extension=".ome.zarr")
    assert "is made again: the file is not the one" in ended.log
    assert FileDigest.of(path) == FileDigest.of(folder / "clean" / ZARR)


def test_a_folder_that_is_no_zarr_fails_by_name_and_leaves_nothing(
    tmp_path: Path, small_model: Path
) -> None:
    (tmp_path / "in" / "bad.ome.zarr").mkdir(parents=True)
    ended = run(tmp_path, small_model)
    assert ended.code == 1
    assert "bad.ome.zarr is not an OME-Zarr folder" in ended.log
    assert files_in(tmp_path / "out") == []
