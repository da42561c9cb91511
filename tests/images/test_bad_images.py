"""Files that cannot be read: each fails by name, when it is opened or at the bad place."""

from __future__ import annotations

import logging
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from exactile.errors import ImageError
from exactile.geometry import Box, Interval
from exactile.images import ImageMetadata, PhysicalSize, Plane, open_source
from exactile.images.tifffile_source import TifffileSource

PIXELS = np.random.default_rng(0).integers(0, 60_000, (2, 64, 64)).astype(np.uint16)


def refuse(path: Path, match: str) -> None:
    with pytest.raises(ImageError, match=match) as caught:
        open_source(path)
    assert str(path) in str(caught.value)


def write(path: Path, pixels=PIXELS, **options) -> bytes:
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **options})
    return path.read_bytes()


def write_stack(path: Path, planes=PIXELS, **options) -> bytes:
    """Write planes (Z, Y, X) as bfio's python backend takes them."""
    tiles = {"ome": True, "tile": (1024, 1024), "metadata": {"axes": "TCZYX"}}
    return write(path, planes[None, None], **tiles, **options)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"these are notes, not pixels\n" * 9, "is not a TIFF image"),
        (b"II", "is not a TIFF image"),
        (b"II*\0", "is not a TIFF image, or is truncated"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "is not a TIFF image"),
        (b"II*\0" + bytes(4), "damaged"),
        (b"PK\3\4" + bytes(99), r"is a zip archive, as OME-Zarr .* unpack it into a folder"),
        (b"PK\5\6" + bytes(18), "is a zip archive"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, content, match):
    path = tmp_path / "image.ome.tif"
    path.write_bytes(content)
    refuse(path, match)


def test_a_missing_file_is_refused(tmp_path):
    refuse(tmp_path / "gone.ome.tif", "does not exist")


def test_a_folder_is_refused(tmp_path):
    refuse(tmp_path, "is a folder")
    (tmp_path / "image.ome.zarr").mkdir()
    refuse(tmp_path / "image.ome.zarr", "is not an OME-Zarr folder")


LAYOUTS = {
    "plain": {"metadata": None},
    "tiles": {"metadata": None, "tile": (16, 16), "compression": "zlib"},
    "shaped": {},
    "ome": {"ome": True},
    "imagej": {"imagej": True},
    "strips": {"compression": "lzw", "rowsperstrip": 8},
    "bigtiff": {"bigtiff": True, "tile": (32, 32), "metadata": None},
}


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_truncated_file_is_refused_or_whole(tmp_path, options, caplog):
    """Wherever a file is cut, it never reads as a smaller image or as other pixels."""
    caplog.set_level(logging.CRITICAL, "tifffile")
    path = tmp_path / "image.tif"
    data = write(path, **options)
    with open_source(path) as source:
        planes, size_c = source.planes, source.size_c
    for length in range(1, len(data), 97):
        path.write_bytes(data[:length])
        try:
            source = open_source(path)
        except ImageError as error:
            assert str(path) in str(error)  # noqa: PT017
            continue
        with source:
            assert (source.planes, source.size_c) == (planes, size_c)
            pages = [
                page
                for plane in planes
                for page in source.read(plane, tuple(range(size_c)), Box.of_shape((64, 64)))
            ]
            np.testing.assert_array_equal(pages, PIXELS)


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_damaged_structure_is_an_image_error_and_nothing_else(tmp_path, options, caplog):
    caplog.set_level(logging.CRITICAL, "tifffile")
    path = tmp_path / "image.tif"
    data = write(path, **options)
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(data)
        for place in rng.integers(0, 500, 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            with open_source(path) as source:
                for plane in source.planes[:3]:
                    box = Box(tuple(Interval(0, min(side, 99)) for side in source.shape))
                    source.read(plane, (0,), box)
        except ImageError as error:
            assert str(path) in str(error)  # noqa: PT017


@pytest.mark.parametrize("dtype", [np.complex64, np.float16, np.uint64, bool])
def test_other_pixel_types_are_refused(tmp_path, dtype):
    path = tmp_path / "image.tif"
    write(path, np.zeros((20, 20), dtype))
    refuse(path, rf"pixels of {np.dtype(dtype).name}; supported are uint8, .*: convert it")


def test_volumes_in_a_page_are_refused(tmp_path):
    path = tmp_path / "image.tif"
    write(path, np.zeros((32, 32, 32), np.uint8), volumetric=True, tile=(16, 16, 16))
    refuse(path, "stores volumes")


def test_axes_without_a_meaning_are_refused(tmp_path):
    path = tmp_path / "image.tif"
    write(path, np.zeros((3, 4, 20, 20), np.uint8))
    refuse(path, r"has axes \(Q=3, Q=4\)")


def test_a_page_that_the_ome_xml_does_not_speak_of_is_refused(tmp_path):
    """Its second plane is in another file, it says, and has a page in this one too."""
    path = tmp_path / "image.ome.tif"
    write(path, PIXELS, ome=True, metadata={"axes": "ZYX"})
    write(tmp_path / "other.ome.tif", PIXELS[1], ome=True, metadata={"axes": "YX"})
    xml = tifffile.tiffcomment(path)
    assert 'PlaneCount="2"' in xml
    with tifffile.TiffFile(tmp_path / "other.ome.tif") as other:
        uuid = other.ome_metadata.split('UUID="')[1].split('"')[0]
    head, tail = xml.split("<TiffData")
    tail = tail.split("/>", 1)[1] if tail.index("/>") < 60 else tail.split("</TiffData>", 1)[1]
    blocks = (
        '<TiffData IFD="0" FirstZ="0" PlaneCount="1"/>'
        '<TiffData IFD="0" FirstZ="1" PlaneCount="1">'
        f'<UUID FileName="other.ome.tif">{uuid}</UUID></TiffData>'
    )
    tifffile.tiffcomment(path, (head + blocks + tail).encode())
    refuse(path, "2 pages, of which its OME-XML describes 1: page 1 is one of the same kind")


def test_strips_too_large_to_decode_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "image.tif"
    write(path, np.zeros((2048, 1024), np.uint8), compression="zlib", rowsperstrip=2048)
    monkeypatch.setattr("exactile.images.tiff_checks.MAX_SEGMENT_BYTES", 2**20)
    refuse(path, "stored in strips of 2 MiB, which can only be decoded whole; at most 1 MiB")


def test_a_file_under_construction_is_refused(tmp_path):
    """tifffile gives a TIFF whose writer has not closed it the shape (0,)."""
    path = tmp_path / "image.ome.tif"
    seen = []

    def tiles():
        for _ in range(3):
            yield np.zeros((1024, 1024), np.uint8)
            writer.filehandle.flush()
            seen.append(path.read_bytes())

    with tifffile.TiffWriter(path) as writer:
        writer.write(tiles(), shape=(1, 1, 1, 3072, 1024), dtype=np.uint8, tile=(1024, 1024))
    for unfinished in seen[:2]:
        path.write_bytes(unfinished)
        refuse(path, "has no pixels: it is still being written")


@pytest.mark.parametrize("name", ["image.ome.tif", "image.tif"])
def test_a_tile_without_data_is_refused(tmp_path, name):
    path = tmp_path / name
    write(path, np.ones((1500, 50), np.uint8), ome=True, tile=(1024, 1024), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags["TileByteCounts"]
        size = tag.valuebytecount // 2
        place = tag.valueoffset + size
    overwrite(path, place, bytes(size))
    refuse(path, r"no data for tile \(row 1, column 0\) of page 0")


def test_a_raw_strip_with_too_few_bytes_is_refused(tmp_path):
    """Reading on would take the bytes that follow for pixels."""
    path = tmp_path / "image.tif"
    write(path, PIXELS[0], rowsperstrip=32)
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags["StripByteCounts"]
        place, size = tag.valueoffset, tag.valuebytecount // 2
    overwrite(path, place, (100).to_bytes(size, "little"))
    refuse(path, "has 100 bytes for strip 0 of page 0, which needs 4096")


@pytest.mark.parametrize("name", ["image.ome.tif", "image.tif"])
@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd", "packbits"])
@pytest.mark.parametrize("garbage", ["noise", "zeros"])
def test_a_damaged_tile_is_named_when_it_is_read(tmp_path, name, compression, garbage):
    path = tmp_path / name
    pixels = np.random.default_rng(0).integers(0, 9, (2, 1500, 1100)).astype(np.uint16)
    write_stack(path, pixels, compression=compression)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[1]
        offset, length = page.dataoffsets[2], page.databytecounts[2]
    data = np.random.default_rng(0).bytes(length) if garbage == "noise" else bytes(length)
    overwrite(path, offset, data)
    with open_source(path) as source:
        assert isinstance(source, TifffileSource) == (name == "image.tif")
        with pytest.raises(ImageError, match="plane T=0 Z=1, channel 0") as caught:
            source.read(Plane(0, 1), (0,), Box((Interval(1020, 1030), Interval(0, 10))))
        assert str(path) in str(caught.value)
        assert "row 1" in str(caught.value)
        # The rest of the image stays readable.
        top = source.read(Plane(0, 1), (0,), Box((Interval(0, 1024), Interval(0, 1100))))
        np.testing.assert_array_equal(top[0], pixels[1, :1024])


def test_one_changed_bit_of_a_deflated_tile_is_noticed(tmp_path):
    path = tmp_path / "image.ome.tif"
    pixels = np.random.default_rng(0).integers(0, 9, (50, 60)).astype(np.uint16)
    data = write_stack(path, pixels[None], compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        middle = tiff.pages[0].dataoffsets[0] + tiff.pages[0].databytecounts[0] // 2
    overwrite(path, middle, bytes([data[middle] ^ 1]))
    with open_source(path) as source, pytest.raises(ImageError, match="damaged there"):
        source.read(Plane(), (0,), Box.of_shape((50, 60)))


def test_a_file_that_shrinks_while_it_is_open_is_named(tmp_path):
    path = tmp_path / "image.tif"
    data = write(path, PIXELS[0])
    with open_source(path) as source:
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(ImageError, match="the file ends within"):
            source.read(Plane(), (0,), Box.of_shape((64, 64)))


def test_broken_ome_xml_leaves_the_pixels_readable(tmp_path, caplog):
    path = tmp_path / "image.ome.tif"
    write(path, PIXELS[0], description='<OME xmlns="x"><Image></OME>', metadata=None)
    with open_source(path) as source:
        assert source.metadata == ImageMetadata()
        found = source.read(Plane(), (0,), Box.of_shape((64, 64)))
        np.testing.assert_array_equal(found[0], PIXELS[0])


def test_metadata_is_read_from_ome_xml(tmp_path):
    path = tmp_path / "image.ome.tif"
    metadata = {
        "axes": "CYX",
        "Name": "well",
        "PhysicalSizeX": 0.5,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 250,
        "PhysicalSizeYUnit": "nm",
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    write(path, PIXELS, ome=True, metadata=metadata)
    with open_source(path) as source:
        assert source.metadata == ImageMetadata(
            x=PhysicalSize(0.5, "µm"),
            y=PhysicalSize(250, "nm"),
            channels=("DAPI", "GFP"),
            name="well",
        )


def test_samples_of_one_ome_channel_share_its_name(tmp_path):
    path = tmp_path / "image.ome.tif"
    metadata = {"axes": "YXS", "Channel": {"Name": ["H&E"]}}
    write(path, np.zeros((20, 30, 3), np.uint8), ome=True, photometric="rgb", metadata=metadata)
    with open_source(path) as source:
        assert source.size_c == 3
        assert source.metadata.channels == ("H&E",) * 3


def test_ome_xml_that_contradicts_the_pages_is_not_given_to_bfio(tmp_path):
    """bfio would read 16-bit pixels into the 8 bits that the XML promises."""
    path = tmp_path / "image.ome.tif"
    write_stack(path)
    xml = tifffile.tiffcomment(path).replace('Type="uint16"', 'Type="uint8"')
    tifffile.tiffcomment(path, xml.encode())
    with open_source(path) as source:
        found = source.read(Plane(0, 1), (0,), Box.of_shape((64, 64)))
    np.testing.assert_array_equal(found[0], PIXELS[1])


def test_pyramids_are_read_at_full_resolution(tmp_path):
    path = tmp_path / "image.ome.tif"
    pixels = np.arange(1500 * 1100, dtype=np.uint16).reshape(1500, 1100)
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(pixels, tile=(1024, 1024), subifds=1)
        writer.write(pixels[::2, ::2], tile=(1024, 1024), subfiletype=1)
    with open_source(path) as source:
        assert source.shape == (1500, 1100)
        found = source.read(Plane(), (0,), Box.of_shape((1500, 1100)))
    np.testing.assert_array_equal(found[0], pixels)


def test_importing_bfio_leaves_the_root_logger_alone(tmp_path):
    path = tmp_path / "image.ome.tif"
    write_stack(path)
    code = (
        "import logging, pathlib, sys; from exactile.images import open_source;"
        "assert 'bfio' not in sys.modules;"
        f"open_source(pathlib.Path({str(path)!r})).close();"
        "assert 'bfio' in sys.modules; assert logging.getLogger().handlers == []"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_list_of_pages_that_runs_in_circles_is_refused(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL, "tifffile")
    path = tmp_path / "image.tif"
    write(path, PIXELS[0], metadata=None)
    with tifffile.TiffFile(path) as tiff:
        pointer, first = tiff.pages.next_page_offset, tiff.pages[0].offset
    overwrite(path, pointer, struct.pack("<I", first))
    refuse(path, "truncated|damaged")
