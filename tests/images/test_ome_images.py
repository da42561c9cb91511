"""What OME-XML says and what a file has: read as Bio-Formats does, or refused; sets of files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tiff_files import block, noise, ome, ome_image, read_all, write_pages

from exactile.errors import ImageError
from exactile.images import image_files, open_source
from exactile.images.tiff_set_source import TiffSetSource
from exactile.inputs import digest_of, list_inputs
from exactile.settings import SegmentSettings

STACK = noise(8, 20, 30)
AS_Z = STACK[None, None]
UUID = [f"urn:uuid:00000000-0000-4000-8000-00000000000{i}" for i in range(10)]


def refuse(path: Path, match: str) -> None:
    with pytest.raises(ImageError, match=match) as caught:
        open_source(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "image",
    [
        ome_image((8, 1, 1), ""),
        ome_image((8, 1, 1), block(0, UUID[0], "its_name_before.ome.tif", count=8)),
        ome_image((8, 1, 1), block(0, count=None)),
        ome_image((8, 1, 1), shape=(99, 99)),
    ],
    ids=["no TiffData", "renamed", "first page only", "sizes of before a crop"],
)
def test_a_stack_is_a_stack_where_bio_formats_reads_one(tmp_path, image):
    path = write_pages(tmp_path / "image.ome.tif", STACK, ome(image))
    np.testing.assert_array_equal(read_all(path), AS_Z)


def test_another_size_in_the_ome_xml_is_logged(tmp_path, caplog):
    path = write_pages(tmp_path / "a.ome.tif", STACK, ome(ome_image((8, 1, 1), shape=(99, 98))))
    read_all(path)
    assert "its OME-XML says 98 x 99 pixels, and its pages have 30 x 20" in caplog.text


def test_trailing_text_does_not_hide_the_ome_xml(tmp_path):
    text = ome(ome_image((8, 1, 1))) + "<!-- edited -->\n"
    np.testing.assert_array_equal(read_all(write_pages(tmp_path / "a.tif", STACK, text)), AS_Z)


@pytest.mark.parametrize(
    ("images", "match"),
    [
        ((ome_image((3, 1, 1)),), "8 pages, of which its OME-XML describes 3: page 3"),
        ((ome_image((9, 1, 1)),), "has 8 pages, and its metadata names page 8"),
        ((ome_image((2, 2, 2), block(0)),), "no page for 7 of 8 planes"),
        ((ome_image((4, 1, 1)), ome_image((4, 1, 1))), "same page for several images"),
        ((), "cannot be used: it has no image"),
    ],
)
def test_pages_that_do_not_fit_are_refused(tmp_path, images, match):
    refuse(write_pages(tmp_path / "image.ome.tif", STACK, ome(*images)), match)


def test_broken_ome_xml_of_a_stack_is_refused(tmp_path):
    path = write_pages(tmp_path / "a.ome.tif", STACK, ome(ome_image((8, 1, 1)))[:-9])
    refuse(path, "what its OME-XML says of its 8 pages cannot be used: it cannot be read")


def test_a_smaller_version_at_the_end_need_not_be_described(tmp_path):
    import tifffile

    path = tmp_path / "image.ome.tif"
    with tifffile.TiffWriter(path, ome=False) as writer:
        text = ome(ome_image((8, 1, 1))).encode()
        for page in STACK:
            writer.write(page, description=text, metadata=None, contiguous=False)
            text = None
        writer.write(STACK[0, ::2, ::2], subfiletype=1, metadata=None)
    np.testing.assert_array_equal(read_all(path), AS_Z)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_stack_of_colours_is_a_stack(tmp_path, planar):
    rgb = noise(4, 20, 30, 3, dtype="uint8")
    pages = rgb if planar == "contig" else np.moveaxis(rgb, -1, 1)
    options = {"photometric": "rgb", "planarconfig": planar}
    path = write_pages(tmp_path / "a.ome.tif", pages, ome(ome_image((4, 3, 1), "")), **options)
    np.testing.assert_array_equal(read_all(path), np.moveaxis(rgb, -1, 0)[None])


# Sets


def write_set(folder: Path, prefix: str, pages: np.ndarray, **changed: str) -> list[Path]:
    """A channel in each file, all of which describe the whole."""
    names = [f"{prefix}_{i}.ome.tif" for i in range(len(pages))]
    blocks = "".join(block(0, UUID[i], name, C=i) for i, name in enumerate(names))
    image = ome_image((1, len(pages), 1), blocks)
    return [
        write_pages(folder / name, pages[i : i + 1], ome(image, uuid=changed.get(name, UUID[i])))
        for i, name in enumerate(names)
    ]


def test_a_channel_in_each_file_makes_one_image(tmp_path):
    pages = noise(3, 20, 30)
    first, second, third = write_set(tmp_path, "focus", pages)
    np.testing.assert_array_equal(read_all(first), pages[None, :, None])
    with open_source(first, threads=2) as source:
        assert isinstance(source, TiffSetSource)
        assert source.path == first
    refuse(second, "is part of the image that focus_0.ome.tif begins")
    assert image_files(first) == image_files(third) == (first, second, third)


def test_a_set_is_segmented_once_and_known_by_all_of_its_files(tmp_path):
    files = write_set(tmp_path, "focus", noise(3, 20, 30))
    alone = write_pages(tmp_path / "alone.ome.tif", STACK, ome(ome_image((8, 1, 1))))
    settings = SegmentSettings(inpDir=tmp_path, outDir=tmp_path / "out", model="m")
    assert list_inputs(settings) == (alone, files[0])
    before = digest_of(files[0])
    assert before.bytes == sum(file.stat().st_size for file in files)
    content = bytearray(files[2].read_bytes())
    content[-1] ^= 1
    files[2].write_bytes(content)
    assert digest_of(files[0]) != before


def test_files_that_are_missing_or_belong_to_another_set_are_named(tmp_path):
    first, second, _ = write_set(tmp_path, "a", noise(3, 20, 30))
    second.unlink()
    refuse(first, r"a_1\.ome\.tif, which has to lie beside it")
    first, *_ = write_set(tmp_path, "b", noise(3, 20, 30), **{"b_1.ome.tif": UUID[9]})
    refuse(first, rf"b_1\.ome\.tif, and the file of that name is another one \({UUID[9]}")


def test_files_of_a_set_that_differ_are_named(tmp_path):
    first, second, _ = write_set(tmp_path, "a", noise(3, 20, 30))
    write_pages(second, noise(1, 20, 30, dtype="uint8"))
    with pytest.raises(ImageError, match=r"a_1\.ome\.tif has pixels of type uint8, and .*a_0"):
        open_source(first)


def test_no_file_outside_the_folder_is_part_of_a_set(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write_pages(tmp_path / "secret.ome.tif", noise(1, 20, 30))
    blocks = block(0, UUID[0], "a.ome.tif") + block(0, UUID[1], "../secret.ome.tif", C=1)
    xml = ome(ome_image((1, 2, 1), blocks), uuid=UUID[0])
    path = write_pages(folder / "a.ome.tif", noise(1, 20, 30), xml)
    refuse(path, r"in secret\.ome\.tif, which has to lie beside it")


@pytest.mark.parametrize("renamed", [False, True])
def test_of_images_with_a_file_each_a_file_is_its_own(tmp_path, renamed):
    pages = noise(3, 20, 30)
    images = [
        ome_image((1, 1, 1), block(0, UUID[i], f"w_{i}.ome.tif"), micrometres=i + 1, name=f"w{i}")
        for i in range(3)
    ]
    for i in range(3):
        name = f"new_{i}.ome.tif" if renamed else f"w_{i}.ome.tif"
        path = write_pages(tmp_path / name, pages[i : i + 1], ome(*images, uuid=UUID[i]))
        np.testing.assert_array_equal(read_all(path), pages[None, None, i : i + 1])
        with open_source(path) as source:
            assert source.metadata.name == f"w{i}"
            assert source.metadata.x is not None
            assert source.metadata.x.value == i + 1
            assert source.series == "1 of 1"


def test_a_file_that_its_set_does_not_know_is_refused(tmp_path):
    images = [ome_image((1, 1, 1), block(0, UUID[i], f"w_{i}.ome.tif")) for i in range(3)]
    path = write_pages(tmp_path / "new.ome.tif", noise(1, 20, 30), ome(*images))
    refuse(path, r"speaks of w_0\.ome\.tif, w_1.*none of which is this file: give it the name back")


def test_a_file_whose_pixels_are_said_to_be_beside_it_is_refused(tmp_path):
    xml = ome(ome_image((8, 1, 1), block(0, UUID[0], "before.ome.tif", count=8)))
    write_pages(tmp_path / "before.ome.tif", STACK, xml)
    refuse(write_pages(tmp_path / "copy.ome.tif", STACK, xml), "the pixels are in before.ome.tif")


def test_a_pipe_among_the_files_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.ome.tif")
    settings = SegmentSettings(inpDir=tmp_path, outDir=tmp_path / "out", model="m")
    assert list_inputs(settings) == (tmp_path / "pipe.ome.tif",)


# Metadata in a file of its own


def binary_only(uuid: str) -> str:
    return ome(f'<BinaryOnly MetadataFile="set.companion.ome" UUID="{UUID[9]}"/>', uuid=uuid)


def test_a_companion_says_what_the_pages_are(tmp_path):
    path = write_pages(tmp_path / "a.ome.tif", STACK, binary_only(UUID[0]))
    refuse(path, "refers to set.companion.ome, which has to lie beside it")
    whole = ome(ome_image((4, 2, 1), block(0, UUID[0], "a.ome.tif", count=8)), uuid=UUID[9])
    (tmp_path / "set.companion.ome").write_text(whole)
    np.testing.assert_array_equal(read_all(path), STACK.reshape(1, 2, 4, 20, 30))
    assert image_files(path) == (path, tmp_path / "set.companion.ome")
    with open_source(path) as source:
        assert source.metadata.x is not None


def test_a_companion_larger_than_any_is_not_read(tmp_path):
    path = write_pages(tmp_path / "a.ome.tif", STACK, binary_only(UUID[0]))
    (tmp_path / "set.companion.ome").touch()
    os.truncate(tmp_path / "set.companion.ome", 2**40)
    refuse(path, "refers to set.companion.ome, which is larger than any OME-XML")


def test_a_companion_joins_files(tmp_path):
    pages = noise(2, 20, 30)
    names = ["a.ome.tif", "b.ome.tif"]
    blocks = "".join(block(0, UUID[i], name, T=i) for i, name in enumerate(names))
    (tmp_path / "set.companion.ome").write_text(ome(ome_image((1, 1, 2), blocks), uuid=UUID[9]))
    for i, name in enumerate(names):
        write_pages(tmp_path / name, pages[i : i + 1], binary_only(UUID[i]))
    np.testing.assert_array_equal(read_all(tmp_path / "a.ome.tif"), pages[:, None, None])
    refuse(tmp_path / "b.ome.tif", "is part of the image that a.ome.tif begins")
