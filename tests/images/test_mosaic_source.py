"""Mosaics: the rules of composing, and what a large number of files costs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from conftest import noise_image, write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from mosaics import Tiles, grid_of_tiles, line

from exactile.errors import CollectionError, ImageError
from exactile.geometry import Box
from exactile.images import MosaicSource, Plane, open_source, read_mosaic
from exactile.images.open_files import MOST_OPEN
from exactile.normalization import fit, parse_normalization

VECTOR = "img-global-positions-1.txt"


def open_mosaic(folder: Path, **options: Any) -> MosaicSource:
    return MosaicSource(read_mosaic(folder / VECTOR, folder), **options)


def read_whole(source: MosaicSource) -> Any:
    return source.read(Plane(), tuple(range(source.size_c)), Box.of_shape(source.shape))


def plain(path: Path, pixels: Any) -> None:
    tifffile.imwrite(path, pixels)


def test_later_lines_overwrite(tmp_path: Path) -> None:
    tiles = Tiles()
    for value, (y, x) in enumerate([(0, 0), (20, 25), (10, 5), (25, 10)], start=1):
        tiles.add(f"{9 - value}.tif", y, x, np.full((40, 40), value, np.uint8))
    tiles.write(tmp_path, tmp_path / VECTOR, plain)
    with open_mosaic(tmp_path) as source:
        assert np.array_equal(read_whole(source)[0], tiles.assembled())
    # In the other order of lines, other pixels are on top.
    tiles.placed.reverse()
    tiles.write(tmp_path, tmp_path / VECTOR, plain)
    with open_mosaic(tmp_path) as source:
        assert np.array_equal(read_whole(source)[0], tiles.assembled())


def test_where_no_file_is_there_are_zeros_also_before_the_first_one(tmp_path: Path) -> None:
    tiles = Tiles()
    tiles.add("a.tif", 1100, 1050, np.full((30, 20), 7, np.uint16))
    tiles.add("b.tif", 2100, 0, np.full((5, 2300), 9, np.uint16))
    tiles.write(tmp_path, tmp_path / VECTOR, plain)
    with open_mosaic(tmp_path) as source:
        assert source.shape == (2105, 2300)
        assert np.array_equal(read_whole(source)[0], tiles.assembled())


@given(data=st.data())
@settings(max_examples=20)
def test_files_of_any_size_in_any_place_make_the_assembled_image(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    tiles = Tiles()
    for number in range(data.draw(st.integers(1, 6))):
        shape = tuple(data.draw(st.integers(1, 60)) for _ in "yx")
        y, x = (data.draw(st.integers(0, 1080)) for _ in "yx")
        tiles.add(f"{number}.tif", y, x, noise_image(shape, number))
    tiles.write(folder, folder / VECTOR, plain)
    with open_mosaic(folder) as source:
        assert np.array_equal(read_whole(source)[0], tiles.assembled())


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("threads", [1, 3])
def test_statistics_are_those_of_the_assembled_file_to_the_last_bit(
    tmp_path: Path, dtype: Any, threads: int
) -> None:
    """Each pixel counts once, in the blocks of the file, whatever lies beneath it."""
    tiles = grid_of_tiles(5, 5, (300, 310), dtype=dtype)
    tiles.write(tmp_path, tmp_path / VECTOR, plain)
    whole = write_image(tmp_path / "whole.ome.tif", tiles.assembled())
    steps = parse_normalization("zscore")
    with open_mosaic(tmp_path, threads=threads) as source, open_source(whole) as assembled:
        assert source.chunk == assembled.chunk
        assert fit(steps, source, Plane(), (0,)) == fit(steps, assembled, Plane(), (0,))
        pairs = zip(source.read_all(Plane(), (0,)), assembled.read_all(Plane(), (0,)), strict=True)
        for (box, found), (other, expected) in pairs:
            assert box == other
            assert np.array_equal(found, expected)


def test_few_files_are_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = grid_of_tiles(12, 12, (30, 40), overlap=3)
    tiles.write(tmp_path, tmp_path / VECTOR, plain)
    most = 0
    read_chunk = MosaicSource.read_chunk

    def watched(self: MosaicSource, *place: Any) -> Any:
        nonlocal most
        found = read_chunk(self, *place)
        links = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
        most = max(most, sum(link.startswith(str(tmp_path)) for link in links))
        return found

    monkeypatch.setattr(MosaicSource, "read_chunk", watched)
    with open_mosaic(tmp_path, threads=4) as source:
        assert np.array_equal(read_whole(source)[0], tiles.assembled())
    # tifffile's and our own, of each file.
    assert 0 < most <= 2 * (MOST_OPEN + 4)


def test_files_that_share_chunks_are_decoded_once_while_memory_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = Tiles()
    tiles.add("a.tif", 900, 900, noise_image((250, 250)))
    tiles.add("b.tif", 1000, 1000, noise_image((250, 250), 1))
    tiles.write(tmp_path, tmp_path / VECTOR, plain)
    decoded: list[tuple[Any, ...]] = []
    with open_mosaic(tmp_path, threads=4) as source:
        reopen = source._reopen

        def watched(number: int) -> Any:
            file = reopen(number)
            read_chunk = file.read_chunk
            file.read_chunk = lambda *place: decoded.append((number, *place)) or read_chunk(*place)
            return file

        monkeypatch.setattr(source._files, "_open_file", watched)
        assert np.array_equal(read_whole(source)[0], tiles.assembled())
    assert len(decoded) == len(set(decoded)) == 2


def test_memory_of_chunks_is_the_files_and_the_mosaics_together(tmp_path: Path) -> None:
    tiles = grid_of_tiles(3, 3, (700, 700))
    tiles.write(tmp_path, tmp_path / VECTOR, plain)
    with open_mosaic(tmp_path, cache_bytes=5_000_001) as source:
        read_whole(source)
        assert source._cache.bytes_held + source._decoded.bytes_held <= 5_000_001
        assert source.decoded_bytes >= 5_000_001


def test_files_may_differ_in_size_layout_and_compression(tmp_path: Path) -> None:
    tiles = Tiles()
    tiles.add("a.tif", 0, 0, noise_image((50, 60)))
    tiles.add("b.ome.tif", 30, 50, noise_image((1100, 70)))
    tiles.write(tmp_path, tmp_path / VECTOR)
    tifffile.imwrite(tmp_path / "a.tif", tiles.placed[0][3], tile=(16, 32), compression="lzw")
    with open_mosaic(tmp_path) as source:
        assert np.array_equal(read_whole(source)[0], tiles.assembled())


@pytest.mark.parametrize(
    ("shape", "dtype", "what"),
    [
        ((40, 50), np.uint8, "pixels of type uint8, and"),
        ((1, 3, 1, 40, 50), np.uint16, "channels: 3, and"),
        ((2, 1, 1, 40, 50), np.uint16, "time points: 2, and"),
        ((1, 1, 4, 40, 50), np.uint16, "planes in the stack: 4, and"),
    ],
)
def test_a_file_of_another_kind_is_named(
    tmp_path: Path, shape: tuple[int, ...], dtype: Any, what: str
) -> None:
    tiles = Tiles()
    for name in "abc":
        tiles.add(f"{name}.ome.tif", 0, 0, noise_image((40, 50)))
    tiles.write(tmp_path, tmp_path / VECTOR)
    write_image(tmp_path / "b.ome.tif", noise_image(shape, dtype=np.int64).astype(dtype))
    with pytest.raises(ImageError, match=what) as caught:
        open_mosaic(tmp_path)
    assert str(tmp_path / "b.ome.tif") in str(caught.value)


def test_files_that_the_folder_lacks_are_named_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.tif", "sub/b.tif"):
        plain(tmp_path / name, noise_image((4, 5)))
    names = ["sub/b.tif", "a.tif", "../a.tif", *(f"{n}.tif" for n in range(9))]
    (tmp_path / VECTOR).write_text("".join(line(name, 0, 0) for name in names))
    with pytest.raises(CollectionError, match="places 11 of 12 files that are not in") as caught:
        read_mosaic(tmp_path / VECTOR, tmp_path)
    assert "sub/b.tif (line 1), ../a.tif (line 3), 0.tif (line 4)" in str(caught.value)
    assert "and 6 more" in str(caught.value)


def test_a_damaged_file_is_named_when_its_pixels_are_wanted(tmp_path: Path) -> None:
    tiles = grid_of_tiles(2, 2, (80, 80))
    tiles.write(tmp_path, tmp_path / VECTOR)
    path = tmp_path / tiles.placed[2][0]
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    data[offset : offset + count] = bytes(count)
    path.write_bytes(data)
    with open_mosaic(tmp_path) as source, pytest.raises(ImageError, match=path.name):
        read_whole(source)


def test_a_file_that_is_replaced_while_it_is_read_is_named(tmp_path: Path) -> None:
    tiles = grid_of_tiles(2, 2, (80, 80))
    tiles.write(tmp_path, tmp_path / VECTOR)
    with open_mosaic(tmp_path) as source:
        path = write_image(tmp_path / tiles.placed[1][0], noise_image((60, 60)))
        with pytest.raises(ImageError, match=f"{path.name} was replaced"):
            read_whole(source)


def test_positions_beyond_what_a_file_can_hold_are_refused(tmp_path: Path) -> None:
    plain(tmp_path / "a.tif", noise_image((4, 5)))
    (tmp_path / VECTOR).write_text(line("a.tif", 0, 2**31))
    with pytest.raises(ImageError, match="no OME-TIFF can hold"):
        open_mosaic(tmp_path)


def test_the_digest_knows_the_order_the_places_and_the_pixels(tmp_path: Path) -> None:
    tiles = grid_of_tiles(1, 3, (20, 30))
    tiles.write(tmp_path, tmp_path / VECTOR, plain)
    text = (tmp_path / VECTOR).read_text()

    def digest(vector: str) -> str:
        (tmp_path / VECTOR).write_text(vector)
        return read_mosaic(tmp_path / VECTOR, tmp_path).digest().sha256

    found = [
        digest(text),
        digest("".join(reversed(text.splitlines(keepends=True)))),
        digest(text.replace("position: (0, 0)", "position: (1, 0)")),
        digest(text.replace("position: (0, 0)", "position: (0, 1)")),
    ]
    assert digest(text.replace("corr: 0.9", "corr: 0.1")) == found[0]
    assert digest(text.replace("grid: (0, 0)", "grid: (0, 1)")) == found[0]
    plain(tmp_path / tiles.placed[1][0], noise_image((20, 30), 99))
    found.append(digest(text))
    assert len(set(found)) == len(found)
