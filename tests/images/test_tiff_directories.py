"""Chains of pages that were made to take long, or whose pages are not alike."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tiff_files import noise, ome, ome_image, overwrite_tag, write_pages

from exactile.errors import ImageError
from exactile.images import open_source, read_sizes
from exactile.images.tiff_directories import first_description, read_directories

PAGES = noise(12, 20, 30)


def refuse(path: Path, match: str) -> None:
    started = time.monotonic()
    for opening in (open_source, read_sizes):
        with pytest.raises(ImageError, match=match) as caught:
            opening(path)
        assert str(path) in str(caught.value)
    assert time.monotonic() - started < 5


def test_a_circle_of_many_pages_is_refused(tmp_path):
    """tifffile looks for circles among the first hundred pages only."""
    path = write_pages(tmp_path / "a.tif", np.zeros((150, 4, 4), np.uint8))
    with tifffile.TiffFile(path) as tiff:
        pointer, target = tiff.pages.next_page_offset, tiff.pages[3].offset
    with path.open("r+b") as file:
        file.seek(pointer)
        file.write(struct.pack("<I", target))
    refuse(path, f"after 150 pages its list of pages leads back to byte {target}")


def test_a_chain_of_empty_directories_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    links = b"".join(struct.pack("<HI", 0, 14 + 6 * i) for i in range(10**5))
    path.write_bytes(b"II*\0\x08\0\0\0" + links)
    refuse(path, "lists 100 pages or more, 100 of them without a size")


@pytest.mark.parametrize("samples", [2 * 10**9, 65535])
def test_absurd_numbers_of_samples_are_refused(tmp_path, samples):
    path = write_pages(tmp_path / "a.tif", PAGES[:1])
    overwrite_tag(path, "SamplesPerPixel", samples)
    refuse(path, f"has {samples} samples for each pixel; at most 4096")


@pytest.mark.parametrize("name", ["ImageWidth", "ImageLength", "RowsPerStrip", "BitsPerSample"])
@pytest.mark.parametrize("value", [0, 2**32 - 1])
def test_absurd_sizes_end_at_once(tmp_path, name, value):
    path = write_pages(tmp_path / "a.tif", PAGES[:1])
    overwrite_tag(path, name, value)
    started = time.monotonic()
    try:
        open_source(path).close()
    except ImageError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert (name, value) == ("RowsPerStrip", 2**32 - 1)  # the way to say: all rows
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"shape": [1000000000000, 20, 30], "axes": "ZYX"}', "more than an image has"),
        ('{"shape": [-4, 20, 30], "axes": "ZYX"}', "damaged"),
        ("ImageJ=1.54\nimages=2000000000\nslices=2000000000\n", "does not fit its pages"),
        (ome(ome_image((2**31 - 1, 2**31 - 1, 1))), "more than files have pages"),
    ],
)
def test_descriptions_of_absurd_stacks_end_at_once(tmp_path, text, match):
    refuse(write_pages(tmp_path / "a.tif", PAGES[:1], text), match)


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("BitsPerSample", 8, "bits of a sample"),
        ("PhotometricInterpretation", 0, "photometric interpretation"),
        ("Compression", 8, "compression"),
        ("ImageLength", 19, "height"),
        ("SampleFormat", 2, "sample format"),
    ],
)
@pytest.mark.parametrize("described", [True, False])
def test_a_page_unlike_the_first_is_refused(tmp_path, name, value, match, described):
    """Of a stack tifffile reads the tags of few pages, and takes the others for like them."""
    text = ome(ome_image((12, 1, 1))) if described else ""
    extra = [(339, 3, 1, 1, False)]
    path = write_pages(tmp_path / "a.ome.tif", PAGES, text, extratags=extra)
    overwrite_tag(path, name, value, page=4)
    with pytest.raises(ImageError, match=rf"stores page 4 of its image otherwise.*{match}"):
        open_source(path)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_the_chain_is_read_as_tifffile_reads_it(tmp_path, options):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, **options) as writer:
        for page in PAGES:
            writer.write(page, metadata=None, contiguous=False, description="of a page")
    with tifffile.TiffFile(path) as tiff:
        found = read_directories(path)
        assert [each.offset for each in found] == [page.offset for page in tiff.pages]
    assert not any(found[0].unlike(each) for each in found)
    assert first_description(path) == b"of a page\0"
