"""OME-TIFFs with smaller levels: what other programs read, which bytes, what is left on disk."""

from __future__ import annotations

import errno
import random
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import ome_types
import pytest
import tifffile

from exactile.errors import OutputError
from exactile.geometry import Box, Interval
from exactile.images import (
    ImageMetadata,
    OmeTiffSink,
    OutputImage,
    PhysicalSize,
    open_source,
    spooled_levels,
)
from exactile.images.downsampling import halve
from exactile.images.journal import Journal
from exactile.images.ome_tiff_sink import needs_bigtiff
from exactile.images.source import Plane

HALF_A_MICRON = PhysicalSize(0.5)
LABELS = OutputImage((2101, 1100), np.dtype(np.uint8), labels=("none", "cell"), pyramid=True)
IMAGES = {
    "labels": LABELS,
    "many_labels": OutputImage(
        (1025, 1), np.dtype(np.uint16), labels=("none", "cell"), pyramid=True
    ),
    "probabilities": OutputImage((1030, 2049), np.dtype(np.float32), size_c=2, pyramid=True),
    "series": OutputImage((1100, 1026), np.dtype(np.int16), 2, 2, 3, pyramid=True),
}


@pytest.fixture(params=IMAGES.values(), ids=IMAGES.keys())
def image(request: pytest.FixtureRequest) -> OutputImage:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.ome.tif"


def pixels_of(image: OutputImage) -> np.ndarray:
    """Pixels (T, C, Z, Y, X): few numbers, so that modes are seldom those of four that differ."""
    return (np.random.default_rng(3).random(image.dimensions) * 5).astype(image.dtype)


def levels_of(image: OutputImage) -> list[np.ndarray]:
    """Each level as it must be: the one before it, halved as a whole."""
    levels = [pixels_of(image)]
    while max(levels[-1].shape[-2:]) > 1024:
        levels.append(halve(levels[-1], image.downsampling))
    return levels


def boxes(image: OutputImage, step: int) -> list[Box]:
    rows, columns = (list(Interval(0, side).split(step)) for side in image.shape)
    return [Box((row, column)) for row in rows for column in columns]


def fill(sink: OmeTiffSink, step: int = 2100, order: int | None = None) -> None:
    pixels = pixels_of(sink.image)
    work = [(plane, box) for plane in sink.image.planes for box in boxes(sink.image, step)]
    if order is not None:
        random.Random(order).shuffle(work)
    for plane, box in work:
        sink.write(plane, box, pixels[plane.t, :, plane.z][box.slices])


def write(path: Path, image: OutputImage) -> bytes:
    with OmeTiffSink(path, image) as sink:
        fill(sink)
    return path.read_bytes()


# What is read


def test_tifffile_finds_each_level_to_be_half_the_one_before(
    path: Path, image: OutputImage
) -> None:
    write(path, image)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.series) == 1
        assert len(tiff.pages) == image.size_t * image.size_c * image.size_z
        found = tiff.series[0].levels
        expected = levels_of(image)
        assert len(found) == len(expected)
        for level, pixels in zip(found, expected, strict=True):
            np.testing.assert_array_equal(level.asarray().reshape(pixels.shape), pixels)
            assert level.keyframe.tile == (1024, 1024)
        assert [level.keyframe.is_reduced for level in found] == [False] + [True] * (len(found) - 1)


def test_the_full_resolution_is_read_as_without_levels(path: Path, image: OutputImage) -> None:
    write(path, image)
    pixels = pixels_of(image)
    with open_source(path) as source:
        assert (source.shape, source.planes) == (image.shape, image.planes)
        for plane in image.planes:
            found = source.read(plane, tuple(range(image.size_c)), Box.of_shape(image.shape))
            np.testing.assert_array_equal(found, pixels[plane.t, :, plane.z])


def test_bfio_reads_the_image_and_the_levels_of_one_page(path: Path) -> None:
    """Of several pages bfio 2.5.0 reads smaller levels wrongly, where tifffile reads them right."""
    from bfio import BioReader

    write(path, LABELS)
    for level, pixels in enumerate(levels_of(LABELS)):
        with BioReader(path, level=level or None) as reader:
            assert reader._backend_name == "python"
            np.testing.assert_array_equal(reader[:].squeeze(), pixels[0, 0, 0])


def test_the_description_is_that_of_the_image_without_levels(path: Path) -> None:
    metadata = ImageMetadata(HALF_A_MICRON, HALF_A_MICRON, None, ("cells",), "slide")
    described = replace(LABELS, metadata=metadata)
    write(path, described)
    with tifffile.TiffFile(path) as tiff:
        xml = tiff.ome_metadata
        for number, level in enumerate(tiff.series[0].levels):
            numerator, denominator = level.keyframe.tags["XResolution"].value
            assert numerator / denominator == 20_000 / 2**number
    pixels = ome_types.from_xml(xml).images[0].pixels
    assert (pixels.size_y, pixels.size_x, pixels.physical_size_x) == (*LABELS.shape, 0.5)
    write(path, replace(described, pyramid=False))
    assert tifffile.tiffcomment(path) == xml


# Which bytes


def test_the_bytes_depend_on_the_pixels_alone(path: Path) -> None:
    image = IMAGES["probabilities"]
    files = {write(path, image)}
    for step, order, threads in [(1024, 1, 1), (700, 2, 3)]:
        with OmeTiffSink(path, image, threads=threads) as sink:
            fill(sink, step, order)
        files.add(path.read_bytes())
    assert len(files) == 1


def test_edge_tiles_of_levels_are_padded_with_zeros(path: Path) -> None:
    write(path, LABELS)
    with tifffile.TiffFile(path) as tiff:
        (half, _) = tiff.series[0].levels[1:]
        page = half.keyframe
        tiles = [segment[0][0, :, :, 0].copy() for segment in page.segments(_fullsize=True)]
    assert [tile.shape for tile in tiles] == [(1024, 1024)] * 2
    upper, lower = tiles
    upper[:, :550] = lower[: 1051 - 1024, :550] = 0
    assert not upper.any()
    assert not lower.any()


def test_an_image_that_fits_one_tile_has_no_levels(path: Path) -> None:
    small = replace(LABELS, shape=(1024, 1024))
    assert write(path, small) == write(path, replace(small, pyramid=False))


def test_levels_count_in_the_choice_of_bigtiff() -> None:
    large = replace(LABELS, shape=(60_000, 60_000))
    assert needs_bigtiff(large)
    assert not needs_bigtiff(replace(large, pyramid=False))


def test_levels_of_a_bigtiff_read_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exactile.images.ome_tiff_sink._CLASSIC_TIFF_LIMIT", 0)
    write(path, LABELS)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
        for level, pixels in zip(tiff.series[0].levels, levels_of(LABELS), strict=True):
            np.testing.assert_array_equal(level.asarray(), pixels[0, 0, 0])


# What is in memory, and on disk


def test_memory_does_not_grow_with_the_image(path: Path) -> None:
    def peak(rows: int) -> int:
        image = replace(LABELS, shape=(rows * 1024, 1024))
        pixels = np.zeros((1, 1024, 1024), np.uint8)
        tracemalloc.start()
        with OmeTiffSink(path, image) as sink:
            for box in boxes(image, 1024):
                sink.write(Plane(), box, pixels)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(2)  # imports
    # How many tiles wait to be compressed is up to the threads.
    assert peak(40) < peak(8) + 3 * 2**20


def test_nothing_but_the_image_is_left(path: Path, image: OutputImage) -> None:
    write(path, image)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("stored", [0, 2, 3])
def test_levels_that_were_being_made_are_made_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, stored: int
) -> None:
    """The image has two tiles in its half, and one in its quarter."""
    expected = write(path, LABELS)
    path.unlink()
    left = [stored]
    store = spooled_levels._store

    def stumble(*what: object) -> None:
        if left[0] == 0:
            raise RuntimeError("stumbled")
        left[0] -= 1
        store(*what)  # type: ignore[arg-type]

    monkeypatch.setattr(spooled_levels, "_store", stumble)
    if stored == 3:
        monkeypatch.setattr(OmeTiffSink, "_write_file", stumble)
    with (
        Journal(path, {}) as journal,
        pytest.raises(RuntimeError, match="stumbled"),
        OmeTiffSink(path, LABELS, journal=journal) as sink,
    ):
        fill(sink)
    kept = sorted(each.name for each in path.parent.rglob("*") if each.is_file())
    assert kept == ["journal", "page-000000"]
    monkeypatch.undo()
    # What a killed run left may be longer than what is written now.
    (journal.folder / "page-000000-level-1").write_bytes(b"left by a killed run" * 10**6)
    with Journal(path, {}, "true") as journal, OmeTiffSink(path, LABELS, journal=journal) as sink:
        assert all(sink.has(Plane(), box) for box in boxes(LABELS, 1024))
    assert path.read_bytes() == expected
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_is_full_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spooled_levels, "_store", refuse)
    with pytest.raises(OutputError, match=r"out\.ome\.tif cannot be written: No space left"):
        write(path, LABELS)
    assert list(path.parent.iterdir()) == []


def test_tiles_that_are_damaged_before_they_are_halved_are_named(path: Path) -> None:
    with pytest.raises(OutputError, match="lost bytes"), OmeTiffSink(path, LABELS) as sink:  # noqa: PT012
        fill(sink)
        sink._wait()
        (spool,) = sink._stores.values()
        spool.path.write_bytes(bytes(spool.path.stat().st_size))
    assert list(path.parent.iterdir()) == []
