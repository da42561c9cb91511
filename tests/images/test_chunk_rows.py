"""Rows of chunks in a store that several sinks write: whose they are, and what they hold."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exactile.geometry import Box, Interval
from exactile.images import CoverageError, OutputImage, Plane, open_sink
from exactile.images.chunk_rows import ChunkRows
from exactile.images.chunk_rows_sink import ChunkRowsSink
from exactile.images.digest import FileDigest
from exactile.images.journal import Journal

SHAPE = (2100, 1030)
PLANE = Plane(t=1, z=2)
PIXELS = np.random.default_rng(0).integers(0, 9, (2, *SHAPE)).astype(np.uint8)


@pytest.fixture(params=["0.4", "0.5"])
def whole(request: pytest.FixtureRequest) -> OutputImage:
    """Three rows of two chunks in each of two channels."""
    return OutputImage(SHAPE, np.dtype(np.uint8), 2, 2, 3, zarr_version=request.param)


def rows_of(tmp_path: Path, whole: OutputImage, start: int, stop: int) -> ChunkRows:
    return ChunkRows(tmp_path / "store", whole, PLANE, Interval(start, stop))


class Writing:
    """A worker that writes rows of PIXELS."""

    def __init__(self, tmp_path: Path, rows: ChunkRows) -> None:
        self.rows = rows
        top, bottom = (min(row * 1024, SHAPE[0]) for row in (rows.rows.start, rows.rows.stop))
        self.pixels = PIXELS[:, top:bottom]
        image = replace(rows.whole, shape=self.pixels.shape[1:], size_t=1, size_z=1)
        path = tmp_path / f"part {rows.rows.start}.ome.zarr"
        self.journal = Journal(path, {})
        self.sink = ChunkRowsSink(path, image, rows, self.journal)

    def write(self) -> FileDigest:
        with self.journal, self.sink as sink:
            sink.write(Plane(), Box.of_shape(self.pixels.shape[1:]), self.pixels)
            return sink.assemble()


def test_chunks_lie_where_the_whole_image_has_them(tmp_path: Path, whole: OutputImage) -> None:
    for start, stop in ((1, 3), (0, 1)):
        Writing(tmp_path, rows_of(tmp_path, whole, start, stop)).write()
    with open_sink(tmp_path / "whole.ome.zarr", whole) as sink:
        for plane in whole.planes:
            sink.write(plane, Box.of_shape(SHAPE), PIXELS)
    made = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(made) == 2 * 3 * 2
    for path in made:
        other = tmp_path / "whole.ome.zarr" / path.relative_to(tmp_path / "store")
        assert path.read_bytes() == other.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"store", "whole.ome.zarr"}


def test_the_digest_is_that_of_a_folder_of_these_chunks_alone(
    tmp_path: Path, whole: OutputImage
) -> None:
    """Rows 9 and 10 come in another order by number than by name."""
    tall = replace(whole, shape=(11 * 1024, 5))
    found = []
    for start, stop in ((8, 11), (0, 8)):
        rows = rows_of(tmp_path, tall, start, stop)
        for path in rows.missing():
            path.parent.mkdir(parents=True)
            path.write_text(str(path))
        assert not any(rows.missing())
        found.append(rows.digest())
        if start == 8:
            shutil.copytree(rows.store, tmp_path / "alone")
    assert found[0] == FileDigest.of(tmp_path / "alone")
    assert found[0] != found[1]


def test_giving_up_removes_the_rows_and_no_others(tmp_path: Path, whole: OutputImage) -> None:
    first, second = (rows_of(tmp_path, whole, *rows) for rows in ((0, 1), (1, 3)))
    kept = Writing(tmp_path, first).write()
    given_up = Writing(tmp_path, second)
    box = Box.of_shape((1024, SHAPE[1]))
    with given_up.journal:
        given_up.sink.write(Plane(), box, given_up.pixels[:, :1024])
        given_up.sink.discard()
    assert first.digest() == kept
    assert len(list(second.missing())) == 8
    assert not (tmp_path / ".exactile").exists()


def test_rows_that_are_not_filled_are_an_error_and_a_later_run_goes_on(
    tmp_path: Path, whole: OutputImage
) -> None:
    rows = rows_of(tmp_path, whole, 1, 3)
    begun = Writing(tmp_path, rows)
    with (
        pytest.raises(CoverageError, match="2 of 4 tiles are not filled"),
        begun.journal,
        begun.sink as sink,
    ):
        sink.write(Plane(), Box.of_shape((1024, SHAPE[1])), begun.pixels[:, :1024])
    assert Writing(tmp_path, rows).write() == rows.digest()
