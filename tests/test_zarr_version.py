"""Which version of OME-Zarr a run writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from conftest import noise_image, write_image
from program import Ended, arguments, call

from exactile.forward import ForwardPass
from exactile.images.digest import FileDigest
from exactile.images.work_folder import work_folder

TIFF, ZARR = "image.ome.tif", "image.ome.zarr"
VERSION = "--zarrVersion"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_image(tmp_path / "in" / TIFF, noise_image((1100, 1060)))
    return tmp_path


def run(folder: Path, model: Path, out: str, extension: str = ".ome.zarr", **more: object) -> Ended:
    words = arguments(folder / "in", folder / out, model=model, tileSize=528, **more)
    return call(words, POLUS_IMG_EXT=extension)


def identity(folder: Path, name: str) -> dict[str, str]:
    content = json.loads((folder / "certificates" / f"{name}.json").read_text())
    return dict(content["identity"])


def test_the_version_that_is_asked_for_is_written_with_the_same_pixels(
    folder: Path, small_model: Path
) -> None:
    expected = None
    for out, version, zarr_format in (("default", "", 2), ("old", "0.4", 2), ("new", "0.5", 3)):
        assert run(folder, small_model, out, zarrVersion=version).code == 0
        group = zarr.open_group(folder / out / ZARR, mode="r")
        assert group.metadata.zarr_format == zarr_format
        assert ("ome" in group.attrs) == (version == "0.5")
        pixels = group["0"][...]
        expected = pixels if expected is None else expected
        np.testing.assert_array_equal(pixels, expected)
        assert identity(folder / out, ZARR)[VERSION] == (version or "0.4")
    assert FileDigest.of(folder / "default" / ZARR) == FileDigest.of(folder / "old" / ZARR)


def test_where_no_zarr_is_written_the_version_is_no_fact_of_the_run(
    folder: Path, small_model: Path
) -> None:
    assert run(folder, small_model, "out", "", zarrVersion="0.4").code == 0
    assert VERSION not in identity(folder / "out", TIFF)
    assert "already done" in run(folder, small_model, "out", "", zarrVersion="0.5").log


def test_an_interrupted_run_goes_on_in_its_version_and_begins_anew_in_the_other(
    folder: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, start = [0], ForwardPass.start

    def stumble(self: ForwardPass, *rest: object) -> object:
        begun[0] += 1
        if begun[0] == 8:
            raise RuntimeError("the network stumbles")
        return start(self, *rest)  # type: ignore[arg-type]

    for version in ("0.4", "0.5"):
        assert run(folder, small_model, version, zarrVersion=version).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(ForwardPass, "start", stumble)
        assert run(folder, small_model, "out", zarrVersion="0.5").code == 1
    path = folder / "out" / ZARR
    assert (work_folder(path) / "whole" / "0" / "c").is_dir()
    ended = run(folder, small_model, "out", zarrVersion="0.4", resume="true")
    assert ended.code == 1
    assert "--zarrVersion was 0.5, and is 0.4" in ended.errors[0]
    ended = run(folder, small_model, "out", zarrVersion="0.5", resume="true")
    assert ended.code == 0
    assert "goes on from" in ended.log
    assert FileDigest.of(path) == FileDigest.of(folder / "0.5" / ZARR)
    ended = run(folder, small_model, "out", zarrVersion="0.4")
    assert ended.code == 0
    assert "is made again: --zarrVersion was 0.5, and is 0.4" in ended.log
    assert FileDigest.of(path) == FileDigest.of(folder / "0.4" / ZARR)


def test_a_version_that_does_not_exist_is_refused(folder: Path, small_model: Path) -> None:
    ended = run(folder, small_model, "out", zarrVersion="0.3")
    assert ended.code == 2
    assert ended.errors == ["--zarrVersion '0.3' is not one of '0.4' or '0.5'"]
    assert not (folder / "out").exists()
