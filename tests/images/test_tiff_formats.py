"""Formats of microscopes and of programs, each by its own description."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tiff_files import noise, ome, ome_image, read_all, write_pages

from exactile.errors import ImageError
from exactile.images import PhysicalSize, open_source

STACK = noise(2, 3, 4, 20, 30)  # T, C, Z
TZCYX = STACK.swapaxes(1, 2)


def refuse(path: Path, match: str) -> None:
    with pytest.raises(ImageError, match=match) as caught:
        open_source(path)
    assert str(path) in str(caught.value)


# Samples that are an axis of their own name


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"truncate": True}, {"byteorder": ">"}],
    ids=str,
)
@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
@pytest.mark.parametrize(
    ("axes", "pixels", "expected"),
    [
        ("CYX", STACK[0, :, 0], STACK[:1, :, :1]),
        ("ZYX", STACK[0, 0, :3], STACK[:1, :1, :3]),
        ("TYX", STACK[0, :, 0], STACK[:1, :, :1].swapaxes(0, 1)),
        ("TCYX", STACK[:, :, 0], STACK[:, :, :1]),
        ("ZCYX", TZCYX[0], STACK[:1]),
        ("TZCYX", TZCYX, STACK),
        ("CZYX", STACK[0, :, :3], STACK[:1, :, :3]),
    ],
)
def test_planes_that_tifffile_makes_samples_are_what_it_calls_them(
    tmp_path, axes, pixels, expected, photometric, options
):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        np.ascontiguousarray(pixels),
        metadata={"axes": axes},
        photometric=photometric,
        planarconfig="separate",
        **options,
    )
    np.testing.assert_array_equal(read_all(path), expected)


@pytest.mark.parametrize("axes", ["ZYXC", "ZYXS", "TYXC"])
def test_samples_that_alternate_are_what_tifffile_calls_them(tmp_path, axes):
    pixels = noise(4, 20, 30, 3, dtype="uint8")
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata={"axes": axes}, photometric="rgb")
    planes = np.moveaxis(pixels, -1, 0)
    expected = planes[None] if axes[0] == "Z" else planes.swapaxes(0, 1)[:, :, None]
    np.testing.assert_array_equal(read_all(tmp_path / "a.tif"), expected)


def test_axes_in_another_order_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0, 0, 0], metadata={"axes": "XY"})
    refuse(tmp_path / "a.tif", r"has axes \(X=20, Y=30\)")


@pytest.mark.parametrize(
    "said",
    [
        {"shape": [3, 20, 30], "axes": "ZYX"},
        {"shape": [4, 99, 30], "axes": "ZYX"},
        {"shape": [8, 20, 30], "axes": "ZYX"},
    ],
    ids=["fewer planes", "of before a crop", "more planes"],
)
def test_tifffiles_description_has_to_fit_the_pages(tmp_path, said):
    path = write_pages(tmp_path / "a.tif", STACK[0, 0], json.dumps(said))
    refuse(path, "does not fit its pages|damaged")


# ImageJ


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
def test_planar_images_of_imagej_are_channels(tmp_path, planes, photometric):
    pages = noise(planes, 3, 20, 30, dtype="uint8")
    text = f"ImageJ=1.54\nimages={planes * 3}\nchannels=3\nslices={planes}\nhyperstack=true\n"
    if photometric == "rgb":
        text = f"ImageJ=1.54\nimages={planes}\nslices={planes}\n"
    options = {"planarconfig": "separate", "photometric": photometric}
    path = write_pages(tmp_path / "a.tif", pages, text, **options)
    np.testing.assert_array_equal(read_all(path), pages.swapaxes(0, 1)[None])


@pytest.mark.parametrize(
    "text",
    ["images=4\nslices=4\n", "images=12\nchannels=3\nslices=2\nframes=2\n", "images=9\nframes=9\n"],
)
def test_a_stack_of_imagej_with_more_or_fewer_pages_is_refused(tmp_path, text):
    path = write_pages(tmp_path / "a.tif", STACK.reshape(-1, 20, 30)[:8], "ImageJ=1.54\n" + text)
    refuse(path, "does not fit its pages|describes (4|9|12) pages but has 8")


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("um", "µm"), ("micron", "µm"), ("\\u00B5m", "µm"), ("nm", "nm"), ("Microns", "µm")],
)
def test_the_size_of_imagejs_pixels_is_kept(tmp_path, unit, expected):
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZYX", "unit": unit, "spacing": 2.5, "finterval": 4.0}
    tifffile.imwrite(path, STACK[0, 0], imagej=True, resolution=(4, 2), metadata=metadata)
    with open_source(path) as source:
        found = source.metadata
    sizes = [PhysicalSize(value, expected) for value in (0.25, 0.5, 2.5)]
    assert [found.x, found.y, found.z] == sizes
    assert found.t == PhysicalSize(4.0, "s")


@pytest.mark.parametrize("unit", ["inch", "pixel", ""])
def test_units_without_a_length_give_no_size(tmp_path, unit):
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZYX", "unit": unit}
    tifffile.imwrite(path, STACK[0, 0], imagej=True, resolution=(4, 2), metadata=metadata)
    with open_source(path) as source:
        assert source.metadata.x is None


def test_centimetres_count_and_inches_do_not(tmp_path):
    for unit, expected in (("CENTIMETER", PhysicalSize(0.5)), ("INCH", None)):
        path = tmp_path / f"{unit}.tif"
        options = {"resolution": (20000, 20000), "resolutionunit": unit, "metadata": None}
        tifffile.imwrite(path, STACK[0, 0, 0], **options)
        with open_source(path) as source:
            assert source.metadata.x == expected


# Zeiss LSM


def lsm_pages(stack: np.ndarray, times: int) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Pages of an LSM file: each of a plane's channels, and a thumbnail after it."""
    kinds = np.dtype([(name or "reserved", kind) for name, kind in tifffile.TIFF.CZ_LSMINFO])
    info = np.zeros(1, kinds)
    _, size_c, size_z, height, width = stack.shape
    for name, value in (
        ("MagicNumber", 67127628),
        ("StructureSize", kinds.itemsize),
        ("DimensionX", width),
        ("DimensionY", height),
        ("DimensionZ", size_z),
        ("DimensionChannels", size_c),
        ("DimensionTime", times),
        ("ScanType", 6),
        ("VoxelSizeX", 3e-7),
        ("VoxelSizeY", 3e-7),
        ("VoxelSizeZ", 1e-6),
    ):
        info[name] = value
    tags = [(34412, 7, len(info.tobytes()), info.tobytes(), False)]
    for time in range(len(stack)):
        for z in range(size_z):
            yield stack[time, :, z], {"extratags": tags}
            yield np.zeros((3, 8, 8), np.uint8), {"subfiletype": 1}
            tags = []


def write_lsm(path: Path, stack: np.ndarray, times: int, **options: Any) -> Path:
    with tifffile.TiffWriter(path, ome=False) as writer:
        for pixels, tags in lsm_pages(stack, times):
            form = {"photometric": "rgb", "planarconfig": "separate", "metadata": None}
            writer.write(pixels, **form, **tags, **options)
    return path


@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}], ids=str)
def test_lsm_is_read_without_its_thumbnails(tmp_path, options):
    stack = STACK.astype(np.uint8)
    path = write_lsm(tmp_path / "a.lsm", stack, times=2, **options)
    np.testing.assert_array_equal(read_all(path), stack)
    with open_source(path) as source:
        assert source.metadata.x == PhysicalSize(pytest.approx(0.3))
        assert source.metadata.z == PhysicalSize(1.0)
        assert source.series == "1 of 2: 30 x 20; not read: 8 x 8"


@pytest.mark.parametrize("times", [1, 3])
def test_an_lsm_of_more_or_fewer_pages_than_it_says_is_refused(tmp_path, times):
    refuse(
        write_lsm(tmp_path / "a.lsm", STACK.astype(np.uint8), times),
        f"describes {4 * times} pages but has 8",
    )


# Micro-Manager


def write_micromanager(
    path: Path, stack: np.ndarray, position: int, text: str = "", *, planned: int = 0, kept: int = 0
) -> Path:
    """Write a stack (T, C, Z, Y, X), or its first planes, as a file of one of two positions."""
    size_t, size_c, size_z, height, width = stack.shape
    summary = {"MicroManagerVersion": "2.0", "Positions": 2, "PixelSize_um": 0.65, "z-step_um": 2}
    summary |= {"Frames": planned or size_t, "Channels": size_c, "Slices": size_z}
    said = json.dumps(summary).encode()
    head = struct.pack("<2s3H2I16x2I", b"II", 42, 0, 0, 54773648, 0, 2355492, len(said))
    file, index, link = bytearray(head + said), [], 4
    for t, z, c in list(np.ndindex(size_t, size_z, size_c))[: kept or None]:
        place, data = len(file), stack[t, c, z].tobytes()
        file += data + b'{"Camera": 1}\0' + text.encode() + b"\0"
        tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1)]
        tags += [(262, 3, 1, 1), (270, 2, len(text) + 1, place + len(data) + 14)][
            : 2 if text else 1
        ]
        tags += [(273, 4, 1, place), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, len(data))]
        tags += [(51123, 2, 14, place + len(data))]
        struct.pack_into("<I", file, link, len(file))
        index.append(struct.pack("<5I", c, z, t, position, len(file)))
        file += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        link, text = len(file), ""
        file += bytes(4)
    struct.pack_into("<I", file, 12, len(file))
    file += struct.pack("<II", 3453623, len(index)) + b"".join(index)
    path.write_bytes(file)
    return path


def test_each_position_of_micromanager_is_an_image(tmp_path):
    for position, stack in ((0, STACK), (1, STACK[::-1])):
        name = f"mm_MMStack_Pos{position}.ome.tif"
        path = write_micromanager(tmp_path / name, stack, position)
        with tifffile.TiffFile(path) as tiff:
            assert tiff.is_mmstack
        np.testing.assert_array_equal(read_all(path), stack)
        with open_source(path) as source:
            assert source.metadata.x == PhysicalSize(0.65)
            assert source.metadata.z == PhysicalSize(2.0)


def test_a_position_without_the_file_that_describes_all_is_read_by_its_index(tmp_path):
    text = ome('<BinaryOnly MetadataFile="gone.ome.tif" UUID="urn:uuid:0"/>', uuid="urn:uuid:1")
    path = write_micromanager(tmp_path / "mm_MMStack_Pos1.ome.tif", STACK, 1, text)
    np.testing.assert_array_equal(read_all(path), STACK)


def test_the_ome_xml_of_micromanager_names_its_channels(tmp_path):
    channels = "".join(f'<Channel ID="Channel:0:{i}" Name="{i}"/>' for i in range(3))
    text = ome(ome_image((4, 3, 2), order="XYCZT", channels=channels))
    path = write_micromanager(tmp_path / "mm_MMStack_Pos0.ome.tif", STACK, 0, text)
    np.testing.assert_array_equal(read_all(path), STACK)
    with open_source(path) as source:
        assert source.metadata.channels == ("0", "1", "2")


def test_a_micromanager_stack_that_lacks_planes_is_refused(tmp_path):
    path = write_micromanager(tmp_path / "mm_MMStack_Pos0.ome.tif", STACK, 0, kept=20)
    refuse(path, "holds 20 of 24 planes of its image")


def test_an_acquisition_that_ended_early_is_read_unless_it_goes_on_elsewhere(tmp_path, caplog):
    path = tmp_path / "mm_MMStack_Pos0.ome.tif"
    write_micromanager(path, STACK, 0, planned=9)
    np.testing.assert_array_equal(read_all(path), STACK)
    assert "ended before its time: T=2 of T=9" in caplog.text
    write_micromanager(tmp_path / "mm_MMStack_Pos0_1.ome.tif", STACK, 0, planned=9)
    refuse(path, r"goes on in mm_MMStack_Pos0_1\.ome\.tif")


# Tiles that are left out

PHILIPS = (
    '<?xml version="1.0"?><DataObject ObjectType="DPUfsImport"><Attribute><Array>'
    '<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING">'
    '"0.00025" "0.00025"</Attribute></DataObject>'
    '<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING">'
    '"0.0005" "0.0005"</Attribute></DataObject></Array></Attribute></DataObject>'
)


def write_sparse(path: Path, compressed: bool, **options: Any) -> np.ndarray:
    """Write four tiles of 16, the last left out, and return them with it as zeros."""
    pixels = noise(32, 32)
    tiles = [pixels[y : y + 16, x : x + 16] for y in (0, 16) for x in (0, 16)]
    packed = [zlib.compress(tile.tobytes()) if compressed else tile.tobytes() for tile in tiles]
    form = {"tile": (16, 16), "compression": "zlib" if compressed else None, "metadata": None}
    with tifffile.TiffWriter(path, ome=False) as writer:
        writer.write(iter([*packed[:3], b""]), shape=(32, 32), dtype="uint16", **form, **options)
        if "description" in options:
            writer.write(pixels[::2, ::2], tile=(16, 16), metadata=None)
    pixels[16:, 16:] = 0
    return pixels


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(
    ("options", "background"),
    [
        ({"extratags": [(42112, 2, 0, "<GDALMetadata></GDALMetadata>", True)]}, 0),
        ({"extratags": [(42113, 2, 0, "7", True)]}, 7),
        ({"description": PHILIPS, "software": "Philips DP v1.0"}, 0),
    ],
    ids=["GDAL", "GDAL with a value", "Philips"],
)
def test_tiles_left_out_are_background_where_the_format_says_so(
    tmp_path, options, background, compressed
):
    expected = write_sparse(tmp_path / "a.tif", compressed, **options)
    expected[16:, 16:] = background
    np.testing.assert_array_equal(read_all(tmp_path / "a.tif")[0, 0, 0], expected)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("nodata", [None, "-1", "nan", "70000"])
def test_tiles_left_out_of_other_formats_are_missing(tmp_path, nodata, compressed):
    tags = [] if nodata is None else [(42113, 2, 0, nodata, True)]
    write_sparse(tmp_path / "a.tif", compressed, extratags=tags)
    refuse(tmp_path / "a.tif", r"no data for tile \(row 1, column 1\)")


# MetaMorph


def test_a_format_whose_tag_cannot_be_read_is_not_taken_for_a_plain_tiff(tmp_path):
    path = tmp_path / "a.stk"
    tags = [(33628, 4, 4, (0, 0, 0, 0), True)]
    write_pages(path, STACK[0, 0, :1], extratags=tags)
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages.first.tags[33628]
        assert tiff.is_stk
    content = bytearray(path.read_bytes())
    content[tag.offset + 8 : tag.offset + 12] = bytes(4)
    path.write_bytes(content)
    refuse(path, "its tag 33628, which says what its pages are, cannot be read")
