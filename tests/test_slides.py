"""Runs on files that hold more than one image, or less: what is made, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tifffile
import zarr
from program import arguments, call

LABEL, IMAGE = (60, 90, 3), (150, 200, 3)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 250, shape).astype(np.uint8)


def write_slide(path: Path) -> Path:
    path.parent.mkdir()
    with tifffile.TiffWriter(path, ome=True) as writer:
        for name, shape in (("label", LABEL), ("20x", IMAGE)):
            options = {"photometric": "rgb", "metadata": {"axes": "YXS", "Name": name}}
            writer.write(noise(*shape), **options)
    return path


def test_which_image_was_read_stands_in_log_certificate_and_report(
    tmp_path: Path, small_model: Path
) -> None:
    path = write_slide(tmp_path / "in" / "slide.ome.tif")
    ended = call(
        arguments(tmp_path / "in", tmp_path / "out", model=small_model, channel=0, tileSize=64)
    )
    assert ended.code == 0, ended.log
    said = "2 of 2: '20x' (200 x 150); not read: 'label' (90 x 60)"
    assert f"{path}: read is image {said}" in ended.log
    certificate = json.loads((tmp_path / "out/certificates/slide.ome.tif.json").read_text())
    assert certificate["input"]["series"] == said
    assert certificate["input"]["dimensions"] == {"T": 1, "C": 3, "Z": 1, "Y": 150, "X": 200}
    report = (tmp_path / "out" / "exactile" / "report.html").read_text()
    assert "series 2 of 2: &#39;20x&#39; (200 x 150); not read: &#39;label&#39; (90 x 60)" in report
    assert tifffile.imread(tmp_path / "out" / "slide.ome.tif").shape == (150, 200)


def test_a_set_of_files_gives_one_result_and_a_plate_one_for_each(
    tmp_path: Path, small_model: Path
) -> None:
    (tmp_path / "in").mkdir()
    uuids = [f"urn:uuid:00000000-0000-4000-8000-00000000000{i}" for i in range(2)]
    names = {"set": ["set_0.ome.tif", "set_1.ome.tif"], "well": ["A1.ome.tif", "A2.ome.tif"]}
    for kind, files in names.items():
        blocks = [
            f'<TiffData IFD="0" FirstT="{i if kind == "set" else 0}" PlaneCount="1">'
            f'<UUID FileName="{name}">{uuid}</UUID></TiffData>'
            for i, (name, uuid) in enumerate(zip(files, uuids, strict=True))
        ]
        images = ["".join(blocks)] if kind == "set" else blocks
        described = "".join(
            f'<Image ID="Image:{i}"><Pixels ID="Pixels:{i}" DimensionOrder="XYZCT" Type="uint8" '
            f'SizeX="40" SizeY="30" SizeZ="1" SizeC="1" SizeT="{3 - len(images)}">{each}</Pixels>'
            "</Image>"
            for i, each in enumerate(images)
        )
        for name, uuid in zip(files, uuids, strict=True):
            schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
            xml = f'<OME xmlns="{schema}" UUID="{uuid}">{described}</OME>'
            options = {"metadata": None, "description": xml.encode()}
            tifffile.imwrite(tmp_path / "in" / name, noise(30, 40), ome=False, **options)
    ended = call(arguments(tmp_path / "in", tmp_path / "out", model=small_model))
    assert ended.code == 0, ended.log
    made = {path.name: tifffile.imread(path).shape for path in (tmp_path / "out").glob("*.tif")}
    assert made == {
        "set_0.ome.tif": (2, 30, 40),
        "A1.ome.tif": (30, 40),
        "A2.ome.tif": (30, 40),
    }


def test_what_was_read_of_an_ome_zarr_stands_in_certificate_and_report(
    tmp_path: Path, small_model: Path
) -> None:
    pixels = np.random.default_rng(0).integers(1, 60_000, (1, 1, 1, 64, 96)).astype(np.uint16)
    path = tmp_path / "in" / "a.ome.zarr"
    zarr.open_group(path, mode="w", zarr_format=2, attributes={"bioformats2raw.layout": 3})
    image = zarr.open_group(path / "0", mode="w", zarr_format=2)
    datasets = [{"path": "full"}, {"path": "half"}]
    axes = [{"name": axis, "type": "space"} for axis in "yx"]
    image.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    options = {"shape": (64, 96), "chunks": (32, 32), "dtype": np.uint16, "fill_value": 7}
    image.create_array("full", **options)[...] = pixels[0, 0, 0]
    (path / "0" / "full" / "1.2").unlink()
    ended = call(arguments(tmp_path / "in", tmp_path / "out", model=small_model, tileSize=64))
    assert ended.code == 0, ended.log
    record = json.loads((tmp_path / "out/certificates/a.ome.zarr.json").read_text())["input"]
    assert record["series"] == "1 of 1: array '0/full'; not read: '0/half'"
    assert record["filled"] == "1 of 6 chunks are not there, and count as 7, the fill value"
    assert record["filled"] in ended.log
    report = (tmp_path / "out" / "exactile" / "report.html").read_text()
    assert "1 of 1: array &#39;0/full&#39;" in report
    assert record["filled"] in report
