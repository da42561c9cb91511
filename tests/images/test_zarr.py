"""What is particular to OME-Zarr: metadata, levels, what is refused, and what damage does."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import ome_zarr_models
import pytest
import zarr
from image_kinds import WithZarr, ngff_attributes
from ome_zarr_models import v04, v05

from exactile.errors import ImageError, OutputError
from exactile.geometry import Box
from exactile.images import (
    ImageMetadata,
    OutputImage,
    PhysicalSize,
    Plane,
    folder_exchange,
    open_source,
)
from exactile.images.digest import FileDigest
from exactile.images.downsampling import halve
from exactile.images.levels import level_shapes
from exactile.images.storing_sink import TILE_SIDE
from exactile.images.zarr_sink import ZarrSink

PIXELS = np.random.default_rng(0).integers(0, 60_000, (1, 1, 1, 64, 64)).astype(np.uint16)
CODECS = {
    "raw": None,
    "zlib": numcodecs.Zlib(),
    "gzip": numcodecs.GZip(),
    "bz2": numcodecs.BZ2(),
    "lzma": numcodecs.LZMA(),
    "lz4": numcodecs.LZ4(),
    "zstd": numcodecs.Zstd(),
    "blosc": numcodecs.Blosc("lz4"),
    "blosc_zstd": numcodecs.Blosc("zstd"),
}


def refuse(path: Path, match: str) -> None:
    with pytest.raises(ImageError, match=match) as caught:
        read(path)
    assert str(path) in str(caught.value)


def read(path: Path) -> Any:
    with open_source(path) as source:
        return source.read(Plane(), (0,), Box.of_shape(source.shape))[0]


def write(path: Path, image: OutputImage, version: str = "0.4") -> np.ndarray:
    """Write areas of a few numbers, and return them (T, C, Z, Y, X)."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 4, (*image.dimensions[:3], *(-(-s // 7) for s in image.shape)))
    pixels = coarse.repeat(7, -2).repeat(7, -1)[..., : image.shape[0], : image.shape[1]]
    pixels = pixels.astype(image.dtype)
    with ZarrSink(path, replace(image, zarr_version=version)) as sink:  # type: ignore[arg-type]
        for plane in image.planes:
            sink.write(plane, Box.of_shape(image.shape), pixels[plane.t, :, plane.z])
    return pixels


def image_of(shape: tuple[int, int], dtype: str = "uint8", **options: Any) -> OutputImage:
    return OutputImage(shape, np.dtype(dtype), **options)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("labels", [(), ("background", "cell", "edge", "debris")])
def test_every_level_is_the_half_of_the_one_before(tmp_path, version, labels):
    path = tmp_path / "a.ome.zarr"
    image = image_of((2100, 1300), "uint8" if labels else "float32", size_z=2, labels=labels)
    expected = write(path, image, version)
    group = zarr.open_group(path, mode="r")
    assert [name for name, _ in sorted(group.arrays())] == ["0", "1", "2"]
    for name, shape in zip("012", level_shapes(image.shape, TILE_SIDE), strict=True):
        array = group[name]
        assert array.shape == (1, 1, 2, *shape)
        assert array.chunks == (1, 1, 1, 1024, 1024)
        assert array.nchunks_initialized == array.nchunks
        np.testing.assert_array_equal(array[...], expected)
        expected = halve(expected, "mode" if labels else "mean")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_chunks_are_compressed_by_what_their_documents_say_and_always_to_the_same_bytes(
    tmp_path, version, dtype
):
    """Several threads in Blosc would order the blocks of a chunk as they end."""
    paths = [tmp_path / name for name in ("a.ome.zarr", "b.ome.zarr")]
    expected = [write(path, image_of((1100, 1030), dtype, size_c=2), version) for path in paths]
    assert FileDigest.of(paths[0]) == FileDigest.of(paths[1])
    np.testing.assert_array_equal(zarr.open_group(paths[0], mode="r")["0"][...], expected[0])
    document = paths[0] / "0" / (".zarray" if version == "0.4" else "zarr.json")
    content = json.loads(document.read_text())
    codec = content["compressor"] if version == "0.4" else content["codecs"][-1]
    assert codec.get("id", codec.get("name")) == ("blosc" if version == "0.4" else "gzip")


def test_the_models_take_the_whole_folder_of_0_5(tmp_path):
    """With the arrays; the same model for 0.4 does not work beside the pydantic of today."""
    path = tmp_path / "a.ome.zarr"
    write(path, image_of((1030, 40), labels=("background", "cell")), "0.5")
    model = ome_zarr_models.open_ome_zarr(zarr.open_group(path, mode="r"), version="0.5")
    assert type(model).__name__ == "ImageLabel"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_models_take_what_is_written_and_find_the_metadata(tmp_path, version):
    path = tmp_path / "a.ome.zarr"
    sizes = PhysicalSize(0.5), PhysicalSize(250, "nm"), PhysicalSize(2)
    metadata = ImageMetadata(*sizes, ("nuclei",), "well A")
    write(path, image_of((1030, 40), metadata=metadata, labels=("background", "cell")), version)
    attributes = zarr.open_group(path, mode="r").attrs.asdict()
    found = attributes if version == "0.4" else attributes["ome"]
    model = (v04 if version == "0.4" else v05).image_label.ImageLabelAttrs.model_validate(found)
    assert model.image_label.version == version
    (multiscale,) = model.multiscales
    assert [axis.unit for axis in multiscale.axes] == [
        None,
        None,
        "micrometer",
        "nanometer",
        "micrometer",
    ]
    scales = [dataset.coordinateTransformations[0].scale for dataset in multiscale.datasets]
    assert scales == [[1, 1, 2, 250, 0.5], [1, 1, 2, 500, 1]]
    assert found["image-label"]["properties"] == [
        {"label-value": 0, "class": "background"},
        {"label-value": 1, "class": "cell"},
    ]
    assert [channel["label"] for channel in found["omero"]["channels"]] == ["nuclei"]


def test_amounts_have_no_names_of_classes(tmp_path):
    path = tmp_path / "a.ome.zarr"
    write(path, image_of((20, 30), "float32"))
    assert "image-label" not in json.loads((path / ".zattrs").read_text())


def test_the_digest_of_a_folder_is_what_sha256sum_says(tmp_path):
    path = tmp_path / "a.ome.zarr"
    write(path, image_of((1030, 40)))
    (path / "0-1").write_bytes(b"sorts before the slash")
    listing = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    done = subprocess.run(listing, shell=True, cwd=path, capture_output=True, text=True, check=True)
    found = FileDigest.of(path)
    assert found.sha256 == done.stdout.split()[0]
    assert found.bytes == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert found.is_of(path)
    (path / "0-1").rename(path / "0-2")
    assert not found.is_of(path)


def test_a_folder_that_is_no_zarr_is_never_replaced(tmp_path):
    path = tmp_path / "a.ome.zarr"
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="a folder that is no Zarr has that name"):
        write(path, image_of((5, 5)))
    assert [file.name for file in path.iterdir()] == ["thesis.txt"]
    shutil.rmtree(path)
    path.touch()
    with pytest.raises(OutputError, match="a file has that name"):
        write(path, image_of((5, 5)))


def test_a_rename_that_fails_leaves_the_image_that_was_there(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_exchange, "exchange", lambda *_: False)
    path = tmp_path / "a.ome.zarr"
    write(path, image_of((5, 5)))
    before = FileDigest.of(path)
    rename = Path.rename

    def refuse_whole(self: Path, target: Path) -> Path:
        if self.name == "whole":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_whole)
    with pytest.raises(OutputError, match="Input/output error"):
        write(path, image_of((6, 6)))
    assert before.is_of(path)
    assert list(tmp_path.iterdir()) == [path]


def test_an_exchange_that_fails_leaves_the_image_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.ome.zarr"
    write(path, image_of((5, 5)))
    before = FileDigest.of(path)

    def refuse_exchange(*_: Path) -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(folder_exchange, "exchange", refuse_exchange)
    with pytest.raises(OutputError, match="Input/output error"):
        write(path, image_of((6, 6)))
    assert before.is_of(path)
    assert list(tmp_path.iterdir()) == [path]


# Metadata that others write


def test_scales_of_the_whole_multiply_and_a_scale_without_a_unit_is_in_pixels(tmp_path):
    path = tmp_path / "a.ome.zarr"
    WithZarr("0.5", "zyx")(path, PIXELS)
    attributes = ngff_attributes("zyx", "0.5")
    (multiscale,) = attributes["ome"]["multiscales"]
    multiscale["axes"][2]["unit"] = "millimeter"
    for dataset in multiscale["datasets"]:
        dataset["coordinateTransformations"][0]["scale"] = [1.0, 3.0, 5.0]
    multiscale["coordinateTransformations"] = [{"type": "scale", "scale": [1.0, 1.0, 2.0]}]
    zarr.open_group(path).attrs.put(attributes)
    with open_source(path) as source:
        assert source.metadata == ImageMetadata(PhysicalSize(10, "mm"), PhysicalSize(3, "pixel"))


@pytest.mark.parametrize("backend", ["zarr", "zarr3"])
def test_what_bfio_says_of_an_image_is_found(tmp_path, backend):
    """It writes OME-Zarr 0.1, without sizes, and OME-XML beside it."""
    from bfio import BioWriter

    path = tmp_path / "a.ome.zarr"
    with BioWriter(path, backend=backend, max_workers=1) as writer:
        writer.X, writer.Y, writer.C, writer.dtype = 64, 64, 1, np.dtype(np.uint16)
        writer.ps_x = writer.ps_y = (0.5, "µm")
        writer.cnames = ["nuclei"]
        writer[:] = PIXELS.transpose(3, 4, 2, 1, 0)
    np.testing.assert_array_equal(read(path), PIXELS[0, 0, 0])
    with open_source(path) as source:
        half = PhysicalSize(0.5)
        assert (source.metadata.x, source.metadata.y) == (half, half)
        assert source.metadata.channels == ("nuclei",)


@pytest.mark.parametrize("omero", [None, {}, {"channels": 3}, {"channels": [{}, {"label": "b"}]}])
def test_names_of_channels_that_do_not_fit_are_passed_by(tmp_path, omero):
    path = tmp_path / "a.ome.zarr"
    WithZarr("0.4")(path, PIXELS)
    zarr.open_group(path).attrs["omero"] = omero
    with open_source(path) as source:
        assert source.metadata.channels == ()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("plate", "is a plate of many images"),
        ("well", "is a well of several images"),
        ("labels", "is a group of label images"),
        (None, "has no `multiscales`"),
    ],
)
def test_groups_that_are_no_single_image_are_refused_by_name(tmp_path, version, key, said):
    path = tmp_path / "a.ome.zarr"
    content = {} if key is None else {key: {}}
    attributes = content if version == "0.4" else {"ome": content | {"version": version}}
    zarr.open_group(path, zarr_format=2 if version == "0.4" else 3, attributes=attributes)
    refuse(path, said)


def test_several_images_of_bioformats2raw_are_refused(tmp_path):
    path = tmp_path / "a.ome.zarr"
    zarr.open_group(path, zarr_format=2, attributes={"bioformats2raw.layout": 3})
    for series in "01":
        WithZarr("0.4", group=series)(path, PIXELS)
    refuse(path, "holds 2 images")


def other_version(attributes: dict) -> None:
    attributes["multiscales"][0]["version"] = "0.7"


def no_axes(attributes: dict) -> None:
    del attributes["multiscales"][0]["axes"]


def fewer_axes(attributes: dict) -> None:
    attributes.update(ngff_attributes("yx", "0.4"))


def missing_array(attributes: dict) -> None:
    attributes["multiscales"][0]["datasets"][0]["path"] = "gone"


def array_elsewhere(attributes: dict) -> None:
    attributes["multiscales"][0]["datasets"][0]["path"] = "../other"


@pytest.mark.parametrize(
    "spoil", [other_version, no_axes, fewer_axes, missing_array, array_elsewhere]
)
def test_metadata_that_is_not_that_of_an_image_is_refused(tmp_path, spoil):
    path = tmp_path / "a.ome.zarr"
    WithZarr("0.4")(path, PIXELS)
    group = zarr.open_group(path)
    attributes = group.attrs.asdict()
    spoil(attributes)
    group.attrs.put(attributes)
    refuse(path, "is not an image|cannot be opened|is inconsistent")


def test_pixels_of_other_types_and_bare_arrays_are_refused(tmp_path):
    WithZarr("0.5")(tmp_path / "a.ome.zarr", PIXELS.astype(np.uint64))
    refuse(tmp_path / "a.ome.zarr", "uint64 are not supported")
    zarr.create_array(tmp_path / "b.ome.zarr", data=PIXELS)
    refuse(tmp_path / "b.ome.zarr", "is a Zarr array without the group")


# Damage


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())
def test_a_chunk_that_is_cut_anywhere_is_refused(tmp_path, codec):
    path = tmp_path / "a.ome.zarr"
    WithZarr("0.4", options={"compressors": codec})(path, PIXELS)
    chunk = path / "full" / "0.0.0.0.0"
    data = chunk.read_bytes()
    for length in {*range(0, len(data), 501), *range(len(data) - 6, len(data)), *range(20)}:
        chunk.write_bytes(data[:length])
        refuse(path, "row 0 and column 0 of plane T=0 Z=0, channel 0")


def test_a_shard_that_is_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "a.ome.zarr"
    WithZarr("0.5", "yx", (16, 16), {"shards": (64, 64)})(path, PIXELS)
    chunk = path / "full" / "c" / "0" / "0"
    data = chunk.read_bytes()
    for length in range(0, len(data), 101):
        chunk.write_bytes(data[:length])
        refuse(path, "row 0 and column 0")


def test_a_chunk_that_is_not_there_is_the_fill_value_and_is_logged_once(tmp_path, caplog):
    path = tmp_path / "a.ome.zarr"
    WithZarr("0.5", "yx", (16, 16), {"fill_value": 7})(path, PIXELS)
    for name in ("1/2", "3/3"):
        (path / "full" / "c" / name).unlink()
    expected = PIXELS[0, 0, 0].copy()
    expected[16:32, 32:48] = expected[48:, 48:] = 7
    np.testing.assert_array_equal(read(path), expected)
    (message,) = caplog.messages
    assert "2 of 16 chunks are not there, and count as 7, the fill value, such as c/1/2" in message
    with open_source(path) as source:
        assert source.filled == "2 of 16 chunks are not there, and count as 7, the fill value"


def test_an_array_without_any_chunk_is_refused(tmp_path):
    path = tmp_path / "a.ome.zarr"
    WithZarr("0.5")(path, PIXELS)
    shutil.rmtree(path / "full" / "c")
    refuse(path, "holds no pixels")


def test_a_missing_chunk_without_a_fill_value_is_refused(tmp_path):
    path = tmp_path / "a.ome.zarr"
    WithZarr("0.4", "yx", (32, 32))(path, PIXELS)
    document = path / "full" / ".zarray"
    document.write_text(json.dumps(json.loads(document.read_text()) | {"fill_value": None}))
    (path / "full" / "1.1").unlink()
    refuse(path, "there is no fill value")


@pytest.mark.parametrize("name", [".zgroup", ".zattrs", "full/.zarray"])
@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff\xfe", b'{"zarr_format": 9}'])
def test_documents_that_are_damaged_are_an_image_error(tmp_path, name, content):
    path = tmp_path / "a.ome.zarr"
    WithZarr("0.4")(path, PIXELS)
    (path / name).unlink()
    if content is not None:
        (path / name).write_bytes(content)
    refuse(path, r"a\.ome\.zarr")
