"""Which page holds which plane, by OME-XML alone."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiff_files import block, ome, ome_image

from exactile.images.ome_planes import OmeError, UnreadableOmeError, is_ome, read_ome

ORDERS = ["".join(order) for order in permutations("ZCT")]
SIZES = st.tuples(*[st.integers(1, 4)] * 3)


def pages(xml: str, samples: int = 1) -> list[int]:
    """The page of each plane, Z fastest, then C, then T."""
    places = read_ome(xml).images[0].places(samples)[..., 1]
    return places.transpose(0, 2, 1).ravel().tolist()


@given(order=st.sampled_from(ORDERS), sizes=SIZES, blocks=st.sampled_from(["", "<TiffData/>"]))
def test_pages_follow_the_order_of_the_dimensions(order, sizes, blocks):
    by_axis = dict(zip("ZCT", sizes, strict=True))
    numbers = np.arange(np.prod(sizes)).reshape([by_axis[axis] for axis in reversed(order)])
    expected = numbers.transpose([order[::-1].index(axis) for axis in "TCZ"])
    assert pages(ome(ome_image(sizes, blocks, order="XY" + order))) == expected.ravel().tolist()


@given(sizes=SIZES, data=st.data(), start=st.sampled_from([0, 1]))
def test_planes_may_be_given_one_by_one_in_any_order_counted_from_0_or_1(sizes, data, start):
    size_z, size_c, size_t = sizes
    shuffled = data.draw(st.permutations(range(size_z * size_c * size_t)))
    places = [(z, c, t) for t in range(size_t) for c in range(size_c) for z in range(size_z)]
    blocks = "".join(
        block(page, Z=z + start, C=c + start, T=t + start)
        for page, (z, c, t) in zip(shuffled, places, strict=True)
    )
    assert pages(ome(ome_image(sizes, blocks))) == list(shuffled)


def test_a_block_without_a_number_goes_on_until_the_next():
    blocks = block(5, count=None) + block(0, count=None, Z=2)
    assert pages(ome(ome_image((4, 1, 1), blocks))) == [5, 6, 0, 1]


@pytest.mark.parametrize(
    ("size_c", "channels", "pages_for_channels"),
    [
        (3, "", 1),
        (3, '<Channel ID="a" SamplesPerPixel="3"/>', 1),
        (3, '<Channel ID="a" SamplesPerPixel="1"/>' * 3, 1),
        (6, '<Channel ID="a" SamplesPerPixel="3"/>' * 2, 2),
        (1, '<Channel ID="a" SamplesPerPixel="3"/>', 1),
        (2, '<Channel ID="a" SamplesPerPixel="3"/>' * 2, 2),
    ],
)
def test_samples_of_a_page_are_channels(size_c, channels, pages_for_channels):
    xml = ome(ome_image((2, size_c, 1), channels=channels))
    assert len(pages(xml, samples=3)) == 2 * pages_for_channels


MIXED = '<Channel ID="a" SamplesPerPixel="3"/><Channel ID="b" SamplesPerPixel="1"/>'


@pytest.mark.parametrize(
    ("xml", "samples", "match"),
    [
        (ome(ome_image((3, 1, 1), block(0) * 2)), 1, "no page for 2 of 3 planes"),
        (ome(ome_image((3, 1, 1), block(0, count=0))), 1, "no page for 3 of 3"),
        (ome(ome_image((2, 1, 1), block(0) + block(0, Z=1))), 1, "same page for several planes"),
        (ome(ome_image((2, 1, 1), block(0, count=3))), 1, "1 planes more than its sizes"),
        (ome(ome_image((2, 1, 1), block(0, Z=5))), 1, "beyond its sizes"),
        (ome(ome_image((1, 4, 1), channels=MIXED)), 3, "SizeC is 4, of channels of 3[+]1 samples"),
        (ome(ome_image((2**30, 2**30, 2**30))), 1, "more than files have pages"),
    ],
)
def test_what_is_open_or_said_twice_is_an_error(xml, samples, match):
    with pytest.raises(OmeError, match=match):
        pages(xml, samples)


@pytest.mark.parametrize(
    "xml",
    ["<OME", "<OME></OME>", ome(ome_image((0, 1, 1))), ome(ome_image((1, 1, 1), order="YXZCT"))],
)
def test_what_cannot_be_read_is_told_from_what_says_nothing_sensible(xml):
    with pytest.raises(UnreadableOmeError):
        read_ome(xml)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ome(), True),
        ("\n " + ome() + "<!-- written by hand -->", True),
        ('<ome:OME xmlns:ome="x"/>', True),
        ("<scn></scn>", False),
        ("SizeZ of <OME>", False),
        ("", False),
    ],
)
def test_ome_xml_is_known_by_its_root(text, expected):
    assert is_ome(text) is expected
