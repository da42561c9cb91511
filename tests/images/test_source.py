"""One suite for every source: what the contract in `exactile.images.source` promises."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_kinds import KINDS, Kind, Pixels

from exactile.geometry import Box, Interval
from exactile.images import Plane, Source, open_source


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def written(request, tmp_path_factory) -> tuple[Kind, Path, Pixels]:
    kind: Kind = request.param
    path = tmp_path_factory.mktemp(kind.name) / kind.file_name
    pixels = kind.pixels()
    kind.write(path, pixels)
    return kind, path, pixels


@pytest.fixture(scope="module", params=[1, 3], ids=["one thread", "three threads"])
def opened(request, written):
    kind, path, pixels = written
    with kind.opened(path, threads=request.param) as source:
        yield source, pixels


def expected(pixels: Pixels, plane: Plane, channels: tuple[int, ...], box: Box) -> Pixels:
    return pixels[plane.t, list(channels), plane.z][box.slices]


def test_the_layout_decides_the_reader(written):
    kind, path, _ = written
    with kind.opened(path) as source:
        assert type(source) is kind.reader


def test_attributes_describe_the_image(opened):
    source, pixels = opened
    size_t, size_c, size_z, *shape = pixels.shape
    assert source.shape == tuple(shape)
    assert (source.size_t, source.size_c, source.size_z) == (size_t, size_c, size_z)
    assert source.dtype == pixels.dtype
    assert source.dtype.isnative
    assert source.planes == tuple(Plane(t, z) for t in range(size_t) for z in range(size_z))


def test_every_plane_reads_whole(opened):
    source, pixels = opened
    channels = tuple(range(source.size_c))
    box = Box.of_shape(source.shape)
    for plane in source.planes:
        found = source.read(plane, channels, box)
        assert found.dtype == pixels.dtype
        np.testing.assert_array_equal(found, expected(pixels, plane, channels, box))


def test_all_chunks_come_in_order_and_make_the_plane(opened):
    source, pixels = opened
    channels = tuple(reversed(range(source.size_c)))
    for plane in source.planes:
        whole = np.zeros((len(channels), *source.shape), source.dtype)
        starts = []
        for box, chunk in source.read_all(plane, channels):
            whole[box.slices] = chunk
            starts.append(box.start)
        assert starts == sorted(starts)
        np.testing.assert_array_equal(
            whole, expected(pixels, plane, channels, Box.of_shape(source.shape))
        )


def test_chunks_tile_the_plane_and_have_the_promised_form(opened):
    source, pixels = opened
    plane, channel = source.planes[-1], source.size_c - 1
    rows, columns = (
        -(-side // step) for side, step in zip(source.shape, source.chunk, strict=True)
    )
    for row in range(rows):
        for column in range(columns):
            chunk = source.read_chunk(plane, channel, row, column)
            box = source.chunk_box(row, column)
            assert chunk.dtype == source.dtype
            assert chunk.shape == box.shape
            np.testing.assert_array_equal(chunk, expected(pixels, plane, (channel,), box)[0])


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_box_is_what_slicing_gives(opened, data):
    source, pixels = opened
    plane = data.draw(st.sampled_from(source.planes))
    channels = tuple(data.draw(st.lists(st.integers(0, source.size_c - 1), min_size=1, max_size=4)))
    axes = []
    for side in source.shape:
        start = data.draw(st.integers(0, side))
        axes.append(Interval(start, data.draw(st.integers(start, side))))
    box = Box(tuple(axes))
    found = source.read(plane, channels, box)
    np.testing.assert_array_equal(found, expected(pixels, plane, channels, box))


def test_what_is_read_is_the_callers_to_change(opened):
    source, pixels = opened
    box = Box.of_shape(source.shape)
    first = source.read(Plane(), (0,), box)
    assert first.flags.owndata
    assert first.flags.c_contiguous
    first[:] = 0
    np.testing.assert_array_equal(
        source.read(Plane(), (0,), box), expected(pixels, Plane(), (0,), box)
    )


def test_the_cache_stays_within_its_bytes_and_changes_nothing(written):
    kind, path, pixels = written
    box = Box.of_shape(pixels.shape[-2:])
    with kind.opened(path, cache_bytes=0) as source:
        for plane in source.planes:
            channels = tuple(range(source.size_c))
            np.testing.assert_array_equal(
                source.read(plane, channels, box), expected(pixels, plane, channels, box)
            )
        assert source._cache.bytes_held <= np.prod(source.chunk) * source.dtype.itemsize


def test_no_file_stays_open_after_close(written):
    kind, path, _ = written
    before = open_descriptors(path)
    with kind.opened(path) as source:
        source.read(Plane(), (0,), Box.of_shape(source.shape))
    source.close()
    assert open_descriptors(path) == before


def open_descriptors(path: Path) -> int:
    listed = Path("/proc/self/fd")
    if not listed.exists():
        pytest.skip("the system does not list open files")
    return [os.path.realpath(link) for link in listed.iterdir()].count(str(path))


@pytest.mark.parametrize(
    ("plane", "channels", "axes"),
    [
        (Plane(99, 0), (0,), ((0, 1), (0, 1))),
        (Plane(0, -1), (0,), ((0, 1), (0, 1))),
        (Plane(), (99,), ((0, 1), (0, 1))),
        (Plane(), (0,), ((-1, 1), (0, 1))),
        (Plane(), (0,), ((0, 1), (0, 9999))),
    ],
)
def test_asking_for_what_is_not_there_is_a_defect(opened, plane, channels, axes):
    source, _ = opened
    box = Box(tuple(Interval(*axis) for axis in axes))
    with pytest.raises(ValueError, match=str(source.path)):
        source.read(plane, channels, box)


class _Counting(Source):
    """A source of zeros that counts how often a chunk is decoded."""

    def __init__(self, cache_bytes: int) -> None:
        super().__init__(cache_bytes)
        self.path = Path("zeros")
        self.shape, self.chunk = (80, 80), (10, 10)
        self.size_t = self.size_z = self.size_c = 1
        self.dtype = np.dtype(np.uint8)
        self.decoded = 0

    def read_chunk(self, plane, channel, row, column):
        self.decoded += 1
        return np.zeros((100, 100), np.uint8)[:10, :10]

    def _close(self) -> None:
        pass


def test_chunks_that_fit_the_cache_are_decoded_once():
    source = _Counting(cache_bytes=6400)
    for _ in range(3):
        source.read(Plane(), (0,), Box.of_shape((80, 80)))
    assert source.decoded == 64


def test_the_cache_keeps_no_view_of_a_larger_buffer():
    source = _Counting(cache_bytes=1000)
    source.read(Plane(), (0,), Box.of_shape((80, 80)))
    assert source._cache.bytes_held == 1000
    assert all(chunk.base is None for chunk in source._cache._chunks.values())


STEM_CELLS = Path(__file__).parents[3] / "shared" / "data" / "stem_cells" / "images"


@pytest.mark.skipif(not STEM_CELLS.is_dir(), reason=f"{STEM_CELLS} is not here")
def test_real_images_read_as_tifffile_reads_them():
    import tifffile

    for path in sorted(STEM_CELLS.glob("*.tif"))[:5]:
        with open_source(path) as source:
            found = source.read(Plane(), (0,), Box.of_shape(source.shape))
        np.testing.assert_array_equal(found[0], tifffile.imread(path))
