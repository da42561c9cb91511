"""What an image says besides its pixels: from every kind of input into every kind of result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import ome_types
import pytest
import tifffile

from exactile.geometry import Box
from exactile.images import ImageMetadata, OutputImage, PhysicalSize, open_sink, open_source
from exactile.images.image_record import image_from_record, image_to_record
from exactile.images.metadata import Length, build_ome_xml

DIMENSIONS = (2, 1, 3, 40, 50)
FULL = ImageMetadata(
    x=PhysicalSize(0.5),
    y=PhysicalSize(250, "nm"),
    z=PhysicalSize(2.0),
    channels=("DAPI",),
    name="well A",
    t=PhysicalSize(1.5, "min"),
    origin_x=Length(-3.25),
    origin_y=Length(0.0, "nm"),
    origin_z=Length(7.0),
)


def image(metadata: ImageMetadata) -> OutputImage:
    size_t, size_c, size_z, *shape = DIMENSIONS
    return OutputImage(tuple(shape), np.dtype(np.uint8), size_t, size_c, size_z, metadata)  # type: ignore[arg-type]


def write(path: Path, metadata: ImageMetadata) -> None:
    described = image(metadata)
    pixels = np.zeros((1, *described.shape), np.uint8)
    with open_sink(path, described) as sink:
        for plane in described.planes:
            sink.write(plane, Box.of_shape(described.shape), pixels)


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
def test_what_is_written_is_what_is_read(tmp_path, name):
    write(tmp_path / name, FULL)
    with open_source(tmp_path / name) as source:
        assert source.metadata == FULL


def test_planes_of_the_ome_xml_lie_above_each_other():
    ome = ome_types.from_xml(build_ome_xml(FULL, DIMENSIONS, np.dtype(np.uint8)))
    planes = ome.images[0].pixels.planes
    assert len(planes) == 6
    assert [(p.the_t, p.the_z, p.position_z) for p in planes][:4] == [
        (0, 0, 7.0),
        (0, 1, 9.0),
        (0, 2, 11.0),
        (1, 0, 7.0),
    ]


def test_places_go_by_the_unit_of_the_pixels(tmp_path):
    """OME-NGFF has one unit for an axis."""
    write(tmp_path / "a.ome.zarr", ImageMetadata(x=PhysicalSize(0.5), origin_x=Length(2.0, "mm")))
    with open_source(tmp_path / "a.ome.zarr") as source:
        found = source.metadata.origin_x
    assert found is not None
    assert (round(found.value, 9), found.unit) == (2000.0, "µm")


def test_a_stage_that_moves_between_planes_is_no_place_of_the_image(tmp_path):
    xml = build_ome_xml(FULL, DIMENSIONS, np.dtype(np.uint8))
    moved = xml.replace('PositionX="-3.25"', 'PositionX="8.5"', 1)
    assert moved != xml
    found = ImageMetadata.from_ome(ome_types.from_xml(moved))
    assert (found.origin_x, found.origin_y) == (None, FULL.origin_y)


def test_a_record_of_an_image_says_all_of_it():
    described = image(FULL)
    record = json.loads(json.dumps(image_to_record(described)))
    assert image_from_record(record) == described


UNFIT = ["a\0b", "DAPI\x01", "a\ud800b", "a\ufffeb", "\x1b[31m"]
ODD = ["a]]>b", "<&>\"'", "cell 🔬", "a\tb"]


@pytest.mark.parametrize("text", UNFIT + ODD, ids=ascii)
@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
def test_names_of_any_characters_are_written_so_that_all_can_read_them(tmp_path, name, text):
    path = tmp_path / name
    metadata = ImageMetadata(channels=(text,), name=text)
    write(path, metadata)
    with open_source(path) as source:
        assert source.metadata == metadata
    if path.is_file():
        with tifffile.TiffFile(path) as tiff:
            assert tiff.ome_metadata is not None
            ElementTree.fromstring(tiff.ome_metadata)
    else:
        json.loads((path / ".zattrs").read_text())["multiscales"][0]["name"].encode()


def old_ome_xml(version: str) -> str:
    """Return the OME-XML that writers of that time had for one plane of two channels."""
    sizes = (
        'DimensionOrder="XYZCT" SizeX="50" SizeY="40" SizeZ="1" SizeC="2" SizeT="1" '
        'PhysicalSizeX="0.5" PhysicalSizeY="0.25"'
    )
    root = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/{version}">'
    if version < "2009-09":
        channels = "".join(
            f'<LogicalChannel ID="LogicalChannel:{i}" Name="{name}" SamplesPerPixel="1">'
            f'<ChannelComponent Pixels="Pixels:0" Index="{i}"/></LogicalChannel>'
            for i, name in enumerate(("DAPI", "GFP"))
        )
        pixels = f'<Pixels ID="Pixels:0" BigEndian="false" PixelType="uint8" {sizes}><TiffData/>'
        date = "<CreationDate>2009-01-01T00:00:00</CreationDate>"
        return (
            f'{root}<Image ID="Image:0" Name="old">{date}{channels}{pixels}</Pixels></Image></OME>'
        )
    channels = "".join(
        f'<Channel ID="Channel:0:{i}" Name="{name}" SamplesPerPixel="1"/>'
        for i, name in enumerate(("DAPI", "GFP"))
    )
    pixels = f'<Pixels ID="Pixels:0" Type="uint8" {sizes}>{channels}<TiffData/>'
    return f'{root}<Image ID="Image:0" Name="old">{pixels}</Pixels></Image></OME>'


VERSIONS = ("2007-06", "2008-02", "2008-09", "2009-09", "2010-04", "2010-06", "2011-06", "2012-06")
LATER = ("2013-06", "2015-01", "2016-06")


@pytest.mark.parametrize("version", [*VERSIONS, *LATER])
def test_ome_xml_of_every_version_of_the_schema_is_read(tmp_path, version):
    """The older ones are brought to the latest by stylesheets, which lxml applies."""
    pixels = np.arange(4000, dtype=np.uint8).reshape(2, 40, 50)
    options: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
    path = tmp_path / "old.ome.tif"
    tifffile.imwrite(path, pixels, description=old_ome_xml(version), ome=False, **options)
    with open_source(path) as source:
        assert (source.size_c, source.shape) == (2, (40, 50))
        sizes = PhysicalSize(0.5), PhysicalSize(0.25)
        assert source.metadata == ImageMetadata(*sizes, channels=("DAPI", "GFP"), name="old")
