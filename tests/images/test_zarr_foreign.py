"""OME-Zarr as others write it, and what its documents and its files contradict each other in."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from image_kinds import WithZarr, ngff_attributes

from exactile.errors import ImageError
from exactile.geometry import Box
from exactile.images import ImageMetadata, PhysicalSize, open_source
from exactile.images.metadata import Length

PIXELS = np.random.default_rng(0).integers(1, 60_000, (2, 3, 2, 40, 50)).astype(np.uint16)
SMALL = (1, 1, 1, 16, 16)


def read(path: Path) -> np.ndarray:
    """Return all pixels (T, C, Z, Y, X)."""
    with open_source(path) as source:
        box, channels = Box.of_shape(source.shape), tuple(range(source.size_c))
        planes = [source.read(plane, channels, box) for plane in source.planes]
        shape = (source.size_t, source.size_z, source.size_c, *source.shape)
    return np.stack(planes).reshape(shape).swapaxes(1, 2)


def refuse(path: Path, match: str) -> None:
    with pytest.raises(ImageError, match=match) as caught:
        read(path)
    assert str(path) in str(caught.value)


def change(document: Path, **facts: Any) -> None:
    """Set facts of a document; None leaves one out."""
    content = json.loads(document.read_text()) | facts
    document.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def described(path: Path, edit: Callable[[dict], None], axes: str = "tczyx") -> None:
    """Write a 0.4 whose entry in `multiscales` is edited."""
    WithZarr("0.4", axes)(path, PIXELS)
    attributes = ngff_attributes(axes, "0.4")
    edit(attributes["multiscales"][0])
    zarr.open_group(path).attrs.put(attributes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.ome.zarr"


# Where the files of chunks lie


@pytest.mark.parametrize("said", [None, "."])
def test_chunks_of_zarr_2_are_read_where_they_lie(path, caplog, said):
    """Before Zarr 2 had a word for the separator, chunks lay in folders too."""
    nested = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    WithZarr("0.4", chunks=SMALL, options=nested)(path, PIXELS)
    change(path / "full" / ".zarray", dimension_separator=said)
    np.testing.assert_array_equal(read(path), PIXELS)
    assert "are named as 0/1/2, and are read there" in caplog.text


def test_chunks_in_two_layouts_are_refused(path):
    WithZarr("0.4", chunks=SMALL)(path, PIXELS)
    (path / "full/0/0/0/0").mkdir(parents=True)
    (path / "full/0.0.0.0.0").rename(path / "full/0/0/0/0/0")
    refuse(path, "named as 0.1.2, 0/1/2, where its metadata say 0.1.2")


def test_chunks_of_zarr_3_that_lie_elsewhere_are_refused(path):
    WithZarr("0.5", chunks=SMALL)(path, PIXELS)
    encoding = {"name": "default", "configuration": {"separator": "."}}
    change(path / "full" / "zarr.json", chunk_key_encoding=encoding)
    refuse(path, "named as c/0/1/2, where its metadata say c.0.1.2")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axis", range(5))
def test_metadata_of_a_smaller_image_are_refused(path, version, axis):
    """Most of the image would be passed by: 3 of its 24 planes were all that was read."""
    WithZarr(version, chunks=SMALL)(path, PIXELS)
    document = path / "full" / (".zarray" if version == "0.4" else "zarr.json")
    shape = [1 if i == axis else side for i, side in enumerate(PIXELS.shape)]
    change(document, shape=shape)
    refuse(path, "its metadata are not those of its pixels")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_consolidated_metadata_are_not_read(path, version):
    """They may be those of an image that was there before."""
    whole = 2 if version == "0.4" else 3
    WithZarr(version)(path, PIXELS[:1, :, :1])
    zarr.consolidate_metadata(str(path), zarr_format=whole)
    name = ".zmetadata" if version == "0.4" else "zarr.json"
    stale = (path / name).read_bytes()
    shutil.rmtree(path)
    WithZarr(version)(path, PIXELS)
    (path / name).write_bytes(stale)
    np.testing.assert_array_equal(read(path), PIXELS)


def odd_file(kind: str, file: Path) -> None:
    content = file.read_bytes()
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to({"dangling": "nowhere", "endless": "/dev/zero", "loop": file.name}[kind])
    assert content


@pytest.mark.parametrize("kind", ["pipe", "folder", "dangling", "endless", "loop"])
@pytest.mark.parametrize("name", [".zattrs", ".zgroup", "full/.zarray", "full/0.0.0.0.0"])
def test_what_is_no_file_is_refused_and_never_waited_for(path, kind, name):
    WithZarr("0.4", chunks=SMALL)(path, PIXELS)
    odd_file(kind, path / name)
    refuse(path, r"a\.ome\.zarr")


def test_chunks_that_are_links_are_read(path, tmp_path):
    WithZarr("0.5", chunks=SMALL)(path, PIXELS)
    chunk = path / "full/c/0/0/0/0/0"
    chunk.rename(tmp_path / "elsewhere")
    chunk.symlink_to(tmp_path / "elsewhere")
    np.testing.assert_array_equal(read(path), PIXELS)


# Documents

JSON = {
    "null": b"null",
    "list": b"[]",
    "number": b"3",
    "text": b'"a"',
    "deep": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "nested": b'{"a":' * 300 + b"1" + b"}" * 300,
    "twice": b'{"zarr_format": 2, "zarr_format": 2}',
    "long number": b'{"zarr_format": ' + b"9" * 5000 + b"}",
    "not UTF-8": b'{"a": "\xff"}',
}


@pytest.mark.parametrize("content", JSON.values(), ids=JSON.keys())
@pytest.mark.parametrize("name", ["zarr.json", "full/zarr.json", "full/.zarray", ".zattrs"])
def test_documents_that_are_no_fit_json_are_refused(path, content, name):
    WithZarr("0.5" if name.endswith(".json") else "0.4")(path, PIXELS)
    (path / name).write_bytes(content)
    refuse(path, "cannot be opened|is not an image")


@pytest.mark.parametrize(
    "facts",
    [
        {"shape": [2, 3, 2, 40, 10**30]},
        {"shape": [2, 3, 2, 40, -50]},
        {"shape": [2, 3, 2, 40, 50.0]},
        {"shape": [2, 3, 2, 40, True]},
        {"shape": "big"},
        {"shape": [2, 3, 2, 2**31 - 1, 2**31 - 1]},
        {"chunks": [1, 1, 1, 0, 16]},
        {"chunks": [1, 1]},
        {"chunks": [1, 1, 1, 2**15, 2**15]},
        {"chunks": None},
        {"dtype": "|O"},
        {"dtype": 5},
        {"compressor": {"id": "nonesuch"}},
        {"compressor": 7},
        {"dimension_separator": "-"},
    ],
    ids=str,
)
def test_arrays_that_cannot_be_are_refused(path, facts):
    WithZarr("0.4", chunks=SMALL)(path, PIXELS)
    change(path / "full" / ".zarray", **facts)
    refuse(path, "cannot be opened|is not an image|not supported|asks for")


def test_documents_of_both_formats_must_describe_one_array(path):
    WithZarr("0.4", chunks=SMALL)(path, PIXELS)
    WithZarr("0.5", chunks=SMALL)(path.with_name("b.ome.zarr"), PIXELS[:1])
    for name in ("zarr.json", "full/zarr.json"):
        shutil.copy(path.with_name("b.ome.zarr") / name, path / name)
    refuse(path, "another array by zarr.json than by .zarray")


def test_a_level_that_is_larger_than_the_first_is_refused(path):
    described(path, lambda entry: entry["datasets"].reverse())
    zarr.open_group(path)["half"].resize((2, 3, 2, 20, 25))
    zarr.open_group(path)["half"][...] = 1
    refuse(path, "the first of its arrays is to be that of full resolution")


# Axes


@pytest.mark.parametrize("order", ["ctzyx", "tzcyx", "tzyxc", "tcxyz", "xyzct"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_axes_in_any_order_are_known_by_their_names(path, order, version):
    WithZarr(version, order)(path, PIXELS)
    np.testing.assert_array_equal(read(path), PIXELS)


def names_alone(entry: dict) -> None:
    entry |= {"version": "0.3", "axes": list("tczyx")}


def no_types(entry: dict) -> None:
    entry["axes"] = [{"name": name} for name in "TCZYX"]


def words(entry: dict) -> None:
    entry["axes"][0]["name"], entry["axes"][1]["name"] = "Time", "channel"


def own_names_of_space(entry: dict) -> None:
    for axis, name in zip(entry["axes"][2:], ("depth", "row", "column"), strict=True):
        axis["name"] = name


def no_axes_in_0_2(entry: dict) -> None:
    del entry["axes"]
    entry["version"] = "0.2"


@pytest.mark.parametrize("edit", [names_alone, no_types, words, own_names_of_space, no_axes_in_0_2])
def test_axes_of_all_versions_are_understood(path, edit):
    described(path, edit)
    np.testing.assert_array_equal(read(path), PIXELS)


def twice(entry: dict) -> None:
    entry["axes"][0] = dict(entry["axes"][1])


def other_type(entry: dict) -> None:
    entry["axes"][0]["type"] = "space"


def without_x(entry: dict) -> None:
    entry["axes"][4] = {"name": "phase", "type": "phase"}


def nothing(entry: dict) -> None:
    entry["axes"] = [None] * 5


def short_scale(entry: dict) -> None:
    entry["datasets"][0]["coordinateTransformations"][0]["scale"].pop()


def path_outside(entry: dict) -> None:
    entry["datasets"][0]["path"] = "../a.ome.zarr/full"


@pytest.mark.parametrize("edit", [twice, other_type, without_x, nothing, short_scale, path_outside])
def test_metadata_that_contradict_themselves_are_refused(path, edit):
    described(path, edit)
    refuse(path, "is not an image of OME-Zarr")


def test_names_that_the_array_has_for_its_axes_must_be_theirs(path):
    WithZarr("0.5")(path, PIXELS)
    change(path / "full" / "zarr.json", dimension_names=list("tzcyx"))
    refuse(path, "the array calls them t, z, c, y, x")


# What is handed on


@pytest.mark.parametrize(
    ("unit", "symbol"),
    [
        ("um", "µm"),
        ("µm", "µm"),
        ("\N{GREEK SMALL LETTER MU}m", "µm"),
        ("micron", "µm"),
        ("micrometres", "µm"),
        ("nm", "nm"),
        ("Millimeter", "mm"),
        ("angstrom", "Å"),
        ("inch", "in"),
        ("parsec", "pc"),
    ],
)
def test_units_are_known_by_their_many_names(path, unit, symbol):
    def edit(entry: dict) -> None:
        entry["axes"][4]["unit"] = unit
        entry["datasets"][0]["coordinateTransformations"][0]["scale"][4] = 0.25

    described(path, edit)
    with open_source(path) as source:
        assert source.metadata == ImageMetadata(x=PhysicalSize(0.25, symbol))


def test_sizes_in_a_unit_that_is_not_known_are_left_out_with_a_word(path, caplog):
    described(path, lambda entry: entry["axes"][4].update(unit="cubit"))
    with open_source(path) as source:
        assert source.metadata == ImageMetadata()
    assert "its unit 'cubit' along x is none that is known" in caplog.text


def test_place_and_time_of_an_image_are_read(path):
    def edit(entry: dict) -> None:
        for axis in entry["axes"][2:]:
            axis["unit"] = "micrometer"
        entry["axes"][0]["unit"] = "second"
        entry["datasets"][0]["coordinateTransformations"] = [
            {"type": "scale", "scale": [3.0, 1.0, 2.0, 0.5, 0.5]},
            {"type": "translation", "translation": [0.0, 0.0, 1.0, -7.0, 0.0]},
        ]
        entry["coordinateTransformations"] = [{"type": "scale", "scale": [1.0, 1.0, 1.0, 2.0, 2.0]}]

    described(path, edit)
    with open_source(path) as source:
        assert source.metadata == ImageMetadata(
            x=PhysicalSize(1.0),
            y=PhysicalSize(1.0),
            z=PhysicalSize(2.0),
            t=PhysicalSize(3.0, "s"),
            origin_x=Length(0.0),
            origin_y=Length(-14.0),
            origin_z=Length(1.0),
        )


@pytest.mark.parametrize("value", [0, -0.5, float("inf"), float("nan")])
def test_sizes_that_are_none_are_left_out_with_a_word(path, caplog, value):
    def edit(entry: dict) -> None:
        entry["datasets"][0]["coordinateTransformations"][0]["scale"][4] = value

    described(path, edit)
    with open_source(path) as source:
        assert source.metadata == ImageMetadata()
    assert "along x, which is left out" in caplog.text


def test_ome_xml_of_another_image_is_ignored_with_a_word(path, caplog):
    WithZarr("0.4")(path, PIXELS)
    (path / "OME").mkdir()
    (path / "OME" / "METADATA.ome.xml").write_text(
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="50" SizeY="40" '
        'SizeZ="9" SizeC="3" SizeT="2" PhysicalSizeX="0.5"/></Image></OME>'
    )
    with open_source(path) as source:
        assert source.metadata == ImageMetadata()
    assert "(2, 3, 9, 40, 50), which has (2, 3, 2, 40, 50), and is ignored" in caplog.text


def test_a_series_that_is_listed_and_not_there_is_refused(path):
    zarr.open_group(path, zarr_format=2, attributes={"bioformats2raw.layout": 3})
    WithZarr("0.4", group="0")(path, PIXELS)
    np.testing.assert_array_equal(read(path), PIXELS)
    zarr.open_group(path / "OME", zarr_format=2, attributes={"series": ["0", "1"]})
    refuse(path, "holds 2 images")
