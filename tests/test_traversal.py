"""The order of the zones: each chunk of the input is decoded once, whatever the image's width."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exactile.geometry import Box, Halo, Locality
from exactile.images import ImageMetadata, Plane, Source
from exactile.tiling import WRITER_TILE, plan
from exactile.traversal import band_width, in_bands, useful_cache_bytes

LOCALITY = Locality.isotropic(16, Halo(92, 92))


class Counted(Source):
    """Pixels that are zero, and a count of how often each chunk is decoded."""

    def __init__(self, shape: tuple[int, int], chunk: int, cache_bytes: int) -> None:
        super().__init__(cache_bytes)
        self.path = Path("counted")
        self.shape, self.chunk = shape, (chunk, chunk)
        self.size_t = self.size_z = self.size_c = 1
        self.dtype = np.dtype(np.uint8)
        self.metadata = ImageMetadata()
        self.decoded: Counter[tuple[int, int]] = Counter()

    def read_chunk(self, plane: Plane, channel: int, row: int, column: int) -> NDArray[Any]:
        self.decoded[row, column] += 1
        return np.zeros(self.chunk_box(row, column).shape, self.dtype)

    def _close(self) -> None:
        pass


def decodings(shape: tuple[int, int], tile: int, cache_bytes: int, chunk: int = 1024) -> Counted:
    source = Counted(shape, chunk, cache_bytes)
    tiling = plan(shape, LOCALITY, tile)
    for zone in in_bands([t.zone for t in tiling.tiles()], tiling, source, 1):
        source.read(Plane(0, 0), (0,), tiling.tile(zone).window & Box.of_shape(shape))
    return source


def test_every_chunk_is_decoded_once_where_a_row_of_windows_is_remembered() -> None:
    source = decodings((6000, 12_000), 1216, cache_bytes=48 * 2**20)
    assert set(source.decoded.values()) == {1}


@pytest.mark.parametrize(("tile", "cache"), [(1216, 24), (2240, 48)])
def test_in_a_very_wide_image_only_chunks_between_two_bands_are_decoded_twice(
    tile: int, cache: int
) -> None:
    shape = (6000, 40_000)
    source = decodings(shape, tile, cache_bytes=cache * 2**20)
    width = band_width(plan(shape, LOCALITY, tile), source, 1)
    assert WRITER_TILE <= width < 40_000
    seams = {edge // 1024 + side for edge in range(width, 40_000, width) for side in (-1, 0)}
    for (_, column), count in source.decoded.items():
        assert count <= 1 + (column in seams)


def test_more_memory_than_is_useful_is_not_taken() -> None:
    shape = (12_000, 12_000)
    source = Counted(shape, 1024, 2**40)
    tiling = plan(shape, LOCALITY, 1216)
    useful = useful_cache_bytes(tiling, source, 1)
    assert useful < 50 * 2**20
    source.limit_cache(useful)
    source.limit_cache(2**50)
    assert source.cache_bytes == useful
    assert band_width(tiling, source, 1) >= 12_000 - 1024
    assert set(decodings(shape, 1216, useful).decoded.values()) == {1}


@pytest.mark.parametrize(("shape", "times"), [((8000, 12_000), 1), ((16_000, 12_000), 2)])
def test_a_small_image_is_decoded_once_for_its_statistics_and_its_windows(
    shape: tuple[int, int], times: int
) -> None:
    source = Counted(shape, 1024, 2**40)
    tiling = plan(shape, LOCALITY, 1216)
    source.limit_cache(useful_cache_bytes(tiling, source, 1))
    for box, pixels in source.read_all(Plane(0, 0), (0,)):
        assert pixels.shape == (1, *box.shape)
    for zone in in_bands([t.zone for t in tiling.tiles()], tiling, source, 1):
        source.read(Plane(0, 0), (0,), tiling.tile(zone).window & Box.of_shape(shape))
    assert set(source.decoded.values()) == {times}


def test_row_by_row_the_same_memory_would_not_do() -> None:
    shape = (6000, 40_000)
    source = Counted(shape, 1024, 24 * 2**20)
    tiling = plan(shape, LOCALITY, 1216)
    for tile in tiling.tiles():
        source.read(Plane(0, 0), (0,), tile.window & Box.of_shape(shape))
    assert max(source.decoded.values()) > 1
    assert sum(source.decoded.values()) > 1.9 * sum(
        decodings(shape, 1216, cache_bytes=24 * 2**20).decoded.values()
    )


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 9000),
    st.integers(1, 9000),
    st.sampled_from([512, 1216, 1712]),
    st.sampled_from([2**10, 2**22, 2**24]),
)
def test_bands_only_change_the_order_and_end_with_tiles_of_the_output(
    height: int, width: int, tile: int, cache: int
) -> None:
    source = Counted((height, width), 1024, cache)
    tiling = plan(source.shape, LOCALITY, tile)
    zones = [each.zone for each in tiling.tiles()]
    ordered = in_bands(zones, tiling, source, 1)
    assert sorted(ordered) == sorted(zones)
    zone, width = tiling.zone[-1], band_width(tiling, source, 1)
    assert width % zone == 0
    if WRITER_TILE % zone == 0 or zone % WRITER_TILE == 0:
        assert width % WRITER_TILE == 0
