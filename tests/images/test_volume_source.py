"""Volumes as sources read them and sinks write them: all planes of a time point as one array."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_kinds import WithZarr
from numpy.typing import NDArray

from exactile.geometry import Box, Interval
from exactile.images import OmeTiffSink, OutputImage, Plane, Volume, open_source
from exactile.images.zarr_source import ZarrSource

SHAPE = (2, 2, 7, 90, 70)
"""T, C, Z, Y, X."""

CHUNKS = {
    "planes": (1, 1, 1, 32, 32),
    "slabs": (1, 1, 3, 32, 32),
    "channels together": (1, 2, 3, 32, 32),
    "all planes": (1, 1, 7, 64, 64),
}


def numbers(shape: tuple[int, ...] = SHAPE) -> NDArray[Any]:
    return np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)


def write_zarr(path: Path, chunks: tuple[int, ...]) -> Path:
    WithZarr("0.4", chunks=chunks)(path, numbers())
    return path


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
def test_a_box_of_a_volume_is_that_of_its_planes(
    tmp_path: Path, chunks: tuple[int, ...], threads: int
) -> None:
    path = write_zarr(tmp_path / "a.ome.zarr", chunks)
    box = Box((Interval(2, 6), Interval(10, 77), Interval(0, 40)))
    with open_source(path, threads=threads) as source:
        assert source.depth == chunks[2]
        assert source.shape_of(3) == SHAPE[2:]
        for volume in source.volumes:
            found = source.read(volume, (1, 0), box)
            assert np.array_equal(found, numbers()[volume.t, ::-1, 2:6, 10:77, 0:40])


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
def test_all_blocks_of_a_volume_cover_it_once_and_rows_of_them_follow_one_another(
    tmp_path: Path, chunks: tuple[int, ...]
) -> None:
    with open_source(write_zarr(tmp_path / "a.ome.zarr", chunks)) as source:
        found = np.zeros((2, *SHAPE[2:]), np.uint32)
        blocks = list(source.read_all(Volume(1), (0, 1)))
        for box, pixels in blocks:
            found[box.slices] += pixels
        assert np.array_equal(found, numbers()[1])
        rows = -(-90 // source.chunk[0]) * -(-7 // source.depth)
        parts = [range(1), range(1, 4), range(4, rows)]
        apart = [box for part in parts for box, _ in source.read_all(Volume(1), (0, 1), part)]
        assert apart == [box for box, _ in blocks]


@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_decoded_together_is_decoded_once(
    tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows overlap in planes and in pixels; the planes of a block are kept for the next one."""
    decoded: Counter[Any] = Counter()
    decode = ZarrSource._decode

    def counted(self: ZarrSource, block: Any, plane: Plane, channel: int) -> NDArray[Any]:
        decoded[block] += 1
        return decode(self, block, plane, channel)

    monkeypatch.setattr(ZarrSource, "_decode", counted)
    path = write_zarr(tmp_path / "a.ome.zarr", CHUNKS["slabs"])
    with open_source(path, threads=threads) as source:
        for z in (0, 2, 3):
            for y in (0, 20, 40):
                box = Box((Interval(z, z + 4), Interval(y, y + 50), Interval(0, 70)))
                source.read(Volume(0), (0, 1), box)
        list(source.read_all(Volume(1), (0, 1)))
    assert set(decoded.values()) == {1}


def test_a_volume_or_a_box_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with open_source(write_zarr(tmp_path / "a.ome.zarr", CHUNKS["planes"])) as source:
        with pytest.raises(ValueError, match="has no volume T=2"):
            source.read(Volume(2), (0,), Box.of_shape((1, 1, 1)))
        with pytest.raises(ValueError, match="reaches outside"):
            source.read(Volume(0), (0,), Box.of_shape((8, 1, 1)))


def test_a_volume_is_written_plane_by_plane(tmp_path: Path) -> None:
    pixels = numbers((2, 7, 90, 70))
    image = OutputImage((90, 70), pixels.dtype, size_t=2, size_c=2, size_z=7)
    with OmeTiffSink(tmp_path / "a.ome.tif", image) as sink:
        for volume in (Volume(0), Volume(1)):
            for z in (Interval(0, 4), Interval(4, 7)):
                for y in (Interval(0, 64), Interval(64, 90)):
                    box = Box((z, y, Interval(0, 70)))
                    assert not sink.has(volume, box)
                    sink.write(volume, box, pixels[box.slices] + volume.t)
    with open_source(tmp_path / "a.ome.tif") as source:
        for volume in source.volumes:
            found = source.read(volume, (0, 1), Box.of_shape((7, 90, 70)))
            assert np.array_equal(found, pixels + volume.t)


def test_a_box_below_the_last_plane_is_refused(tmp_path: Path) -> None:
    image = OutputImage((9, 8), np.dtype(np.uint8), size_z=2)
    pixels = np.zeros((1, 3, 9, 8), np.uint8)
    with (
        pytest.raises(ValueError, match="has no plane T=0 Z=2"),
        OmeTiffSink(tmp_path / "a.ome.tif", image) as sink,
    ):
        sink.write(Volume(), Box.of_shape((3, 9, 8)), pixels)
