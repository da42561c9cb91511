"""One suite for every sink: what the contract in `exactile.images.sink` promises."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ome_types
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exactile.errors import OutputError
from exactile.geometry import Box, Interval
from exactile.images import (
    CoverageError,
    ImageMetadata,
    OmeTiffSink,
    OutputImage,
    PhysicalSize,
    Plane,
    Sink,
    open_source,
)
from exactile.images.metadata import PIXEL_TYPES
from exactile.images.ome_tiff_sink import needs_bigtiff
from exactile.images.zarr_sink import ZarrSink


def ZarrSink05(path: Path, image: OutputImage, *rest: Any, **options: Any) -> ZarrSink:  # noqa: N802
    return ZarrSink(path, replace(image, zarr_version="0.5"), *rest, **options)


SINKS = {"OmeTiffSink": OmeTiffSink, "ZarrSink": ZarrSink, "ZarrSink05": ZarrSink05}

# Validation against the schema needs one of these; the model itself is checked without.
_CAN_VALIDATE = any(importlib.util.find_spec(name) for name in ("lxml", "xmlschema"))


@pytest.fixture(params=SINKS.values(), ids=SINKS.keys())
def sink_type(request) -> Callable[..., Sink]:
    return request.param


def name_of(sink_type, stem: str = "out") -> str:
    return stem + (".ome.tif" if sink_type is OmeTiffSink else ".ome.zarr")


def content_of(path: Path) -> Hashable:
    """All bytes of a file, or of every file in a folder by its name."""
    if path.is_file():
        return path.read_bytes()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return tuple((str(file.relative_to(path)), file.read_bytes()) for file in files)


def pixels_of(image: OutputImage) -> np.ndarray:
    """Pixels (T, C, Z, Y, X) for an image, the same each time."""
    rng = np.random.default_rng(3)
    return (rng.random(image.dimensions) * 250).astype(image.dtype)


def output(shape, dtype="uint8", *, t=1, c=1, z=1, metadata=None) -> OutputImage:
    return OutputImage(shape, np.dtype(dtype), t, c, z, metadata or ImageMetadata())


def boxes_of(shape, step) -> list[Box]:
    rows, columns = (list(Interval(0, side).split(s)) for side, s in zip(shape, step, strict=True))
    return [Box((row, column)) for row in rows for column in columns]


def write_all(sink_type, path, image, step=(500, 700), order=None) -> Hashable:
    pixels = pixels_of(image)
    work = [(plane, box) for plane in image.planes for box in boxes_of(image.shape, step)]
    if order is not None:
        random.Random(order).shuffle(work)
    with sink_type(path, image) as sink:
        for plane, box in work:
            sink.write(plane, box, pixels[plane.t, :, plane.z][box.slices])
    return content_of(path)


def write_part(sink: Sink) -> None:
    image = sink.image
    box = Box((Interval(0, 1), Interval(0, image.shape[1])))
    sink.write(Plane(), box, pixels_of(image)[0, :, 0][box.slices])


IMAGES = {
    "one_pixel": output((1, 1)),
    "one_column": output((1500, 1), "uint16"),
    "one_row": output((1, 1500), "float32"),
    "less_than_a_tile": output((70, 90), "float32", c=3),
    "whole_tiles": output((1024, 2048)),
    "cut_tiles": output((1030, 1100), "uint16"),
    "stack": output((40, 30), t=2, c=3, z=2),
    "stack_of_pixels": output((1, 1), "uint16", t=2, z=3),
    **{f"of_{dtype}": output((20, 30), dtype, c=2) for dtype in PIXEL_TYPES},
}


@pytest.fixture(params=IMAGES.values(), ids=IMAGES.keys())
def image(request) -> OutputImage:
    return request.param


def test_what_is_written_is_read_back(sink_type, image, tmp_path):
    path = tmp_path / name_of(sink_type)
    write_all(sink_type, path, image)
    pixels = pixels_of(image)
    with open_source(path) as source:
        assert (source.shape, source.dtype) == (image.shape, image.dtype)
        assert source.planes == image.planes
        for plane in image.planes:
            found = source.read(plane, tuple(range(image.size_c)), Box.of_shape(image.shape))
            np.testing.assert_array_equal(found, pixels[plane.t, :, plane.z])


def test_tifffile_reads_it_as_ome(image, tmp_path):
    path = tmp_path / "out.ome.tif"
    write_all(OmeTiffSink, path, image)
    pixels = pixels_of(image)
    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        assert series.kind == "ome"
        np.testing.assert_array_equal(series.asarray().reshape(pixels.shape), pixels)


def test_bfio_reads_it_by_default(sink_type, image, tmp_path):
    from bfio import BioReader

    if sink_type is not OmeTiffSink and 1 in image.shape:
        pytest.skip("bfio drops Y or X from a Zarr where it is of one pixel, and fails")
    path = tmp_path / name_of(sink_type)
    write_all(sink_type, path, image)
    pixels = pixels_of(image)
    backend = {OmeTiffSink: "python", ZarrSink: "zarr", ZarrSink05: "zarr3"}[sink_type]
    # Several workers hide errors of Zarr's.
    with BioReader(path, max_workers=1) as reader:
        assert reader._backend_name == backend
        assert image.shape == (reader.Y, reader.X)
        assert reader.dtype == image.dtype
        found = reader[:].reshape(*image.shape, image.size_z, image.size_c, image.size_t)
        np.testing.assert_array_equal(found.transpose(4, 3, 2, 0, 1), pixels)


def test_the_bytes_depend_on_the_pixels_alone(sink_type, tmp_path):
    image = output((1100, 1300), "uint16", c=2, z=2)
    path = tmp_path / name_of(sink_type)
    files = {
        write_all(sink_type, path, image, step, order)
        for step, order in [((1024, 1024), None), ((300, 1300), 1), ((1100, 77), 2)]
    }
    assert len(files) == 1


def test_the_number_of_threads_changes_no_byte(tmp_path):
    image = output((2100, 1300), "float32")
    path = tmp_path / "out.ome.tif"
    pixels = pixels_of(image)[0]
    files = set()
    for threads in (1, 2):
        with OmeTiffSink(path, image, threads=threads) as sink:
            sink.write(Plane(), Box.of_shape(image.shape), pixels[:, 0])
        files.add(path.read_bytes())
    assert len(files) == 1


def cut(draw, box: Box, depth: int) -> list[Box]:
    """Cut a box in two at a drawn place, again and again."""
    axis = draw(st.sampled_from([0, 1]))
    interval = box.axes[axis]
    if depth == 0 or interval.length < 2:
        return [box]
    place = draw(st.integers(interval.start + 1, interval.stop - 1))
    halves = (Interval(interval.start, place), Interval(place, interval.stop))
    return [
        part
        for half in halves
        for part in cut(draw, Box((*box.axes[:axis], half, *box.axes[axis + 1 :])), depth - 1)
    ]


@given(data=st.data())
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_partition_in_any_order_gives_the_same_file(sink_type, tmp_path, data):
    image = output((1030, 1040))
    reference = write_all(sink_type, tmp_path / name_of(sink_type, "reference"), image, image.shape)
    boxes = data.draw(st.permutations(cut(data.draw, Box.of_shape(image.shape), 4)))
    pixels = pixels_of(image)[0, :, 0]
    path = tmp_path / name_of(sink_type)
    with sink_type(path, image) as sink:
        for box in boxes:
            sink.write(Plane(), box, pixels[box.slices])
    assert content_of(path) == reference


def test_the_caller_may_reuse_its_array(sink_type, tmp_path):
    image = output((1024, 2048))
    buffer = np.empty((1, 1024, 1024), np.uint8)
    path = tmp_path / name_of(sink_type)
    with sink_type(path, image) as sink:
        for index, box in enumerate(boxes_of(image.shape, (1024, 1024))):
            buffer[:] = index + 1
            sink.write(Plane(), box, buffer)
            buffer[:] = 99
    with open_source(path) as source:
        found = source.read(Plane(), (0,), Box.of_shape(image.shape))
    assert set(np.unique(found)) == {1, 2}


def test_memory_does_not_grow_with_the_image(sink_type, tmp_path):
    def peak(rows: int) -> int:
        image = output((rows * 1024, 1024))
        pixels = np.zeros((1, 1024, 1024), np.uint8)
        tracemalloc.start()
        with sink_type(tmp_path / name_of(sink_type), image) as sink:
            for box in boxes_of(image.shape, (1024, 1024)):
                sink.write(Plane(), box, pixels)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(2)  # imports
    assert peak(40) < peak(8) + 2**20


def test_metadata_is_kept(sink_type, tmp_path):
    metadata = ImageMetadata(
        PhysicalSize(0.65),
        PhysicalSize(650, "nm"),
        PhysicalSize(2.5),
        ("nuclei <1>", "µ-tubuli"),
        "well A&1",
    )
    path = tmp_path / name_of(sink_type)
    write_all(sink_type, path, output((20, 30), c=2, z=2, metadata=metadata))
    with open_source(path) as source:
        assert source.metadata == metadata


def test_ome_xml_is_valid_and_the_tags_say_the_same(tmp_path):
    path = tmp_path / "out.ome.tif"
    sizes = PhysicalSize(0.65), PhysicalSize(650, "nm"), PhysicalSize(2.5)
    metadata = ImageMetadata(*sizes, ("nuclei <1>", "µ-tubuli"), "well A&1")
    write_all(OmeTiffSink, path, output((20, 30), c=2, z=2, metadata=metadata))
    with tifffile.TiffFile(path) as tiff:
        ome = ome_types.from_xml(tiff.ome_metadata, validate=_CAN_VALIDATE)
        tags = tiff.pages[0].tags
        assert tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
        for name in ("XResolution", "YResolution"):
            numerator, denominator = tags[name].value
            assert numerator / denominator == pytest.approx(1 / 0.65e-4)
    assert ome.uuid is None
    assert ome.images[0].acquisition_date is None


def test_without_physical_size_the_resolution_has_no_unit(tmp_path):
    path = tmp_path / "out.ome.tif"
    write_all(OmeTiffSink, path, output((20, 30)))
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].tags["ResolutionUnit"].value == tifffile.RESUNIT.NONE


@pytest.mark.parametrize("size", [PhysicalSize(1e-15), PhysicalSize(2, "pixel")])
def test_a_physical_size_that_has_no_resolution_is_kept_in_the_xml(tmp_path, size):
    path = tmp_path / "out.ome.tif"
    write_all(OmeTiffSink, path, output((20, 30), metadata=ImageMetadata(size, size)))
    with open_source(path) as source:
        assert source.metadata.x == size
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].tags["ResolutionUnit"].value == tifffile.RESUNIT.NONE


def test_edge_tiles_are_padded_with_zeros(tmp_path):
    path = tmp_path / "out.ome.tif"
    write_all(OmeTiffSink, path, output((70, 90)))
    with tifffile.TiffFile(path) as tiff:
        tile = next(iter(tiff.pages[0].segments(_fullsize=True)))[0][0, :, :, 0]
    assert tile.shape == (1024, 1024)
    tile = tile.copy()
    tile[:70, :90] = 0
    assert not tile.any()


def test_nothing_but_the_image_is_left_in_the_folder(sink_type, tmp_path):
    path = tmp_path / name_of(sink_type)
    with sink_type(path, output((20, 30))) as sink:
        sink.write(Plane(), Box.of_shape((20, 30)), np.zeros((1, 20, 30), np.uint8))
        assert [p for p in tmp_path.iterdir() if p.name != ".exactile"] == []
    assert list(tmp_path.iterdir()) == [path]


def test_two_images_may_be_written_at_once(sink_type, tmp_path):
    first = sink_type(tmp_path / name_of(sink_type, "a"), output((20, 30)))
    with first:
        write_all(sink_type, tmp_path / name_of(sink_type, "b"), output((20, 30)))
        first.write(Plane(), Box.of_shape((20, 30)), np.zeros((1, 20, 30), np.uint8))
    names = [name_of(sink_type, "a"), name_of(sink_type, "b")]
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_closing_twice_is_harmless_and_writing_later_is_a_defect(sink_type, tmp_path):
    sink = sink_type(tmp_path / name_of(sink_type), output((1, 1)))
    pixel = np.zeros((1, 1, 1), np.uint8)
    sink.write(Plane(), Box.of_shape((1, 1)), pixel)
    sink.close()
    sink.close()
    sink.discard()
    assert sink.path.exists()
    with pytest.raises(ValueError, match="is finished"):
        sink.write(Plane(), Box.of_shape((1, 1)), pixel)


# What must not happen


def test_a_pixel_written_twice_raises(sink_type, tmp_path):
    sink = sink_type(tmp_path / name_of(sink_type), output((20, 30)))
    write_part(sink)
    with pytest.raises(CoverageError, match="written twice"):
        write_part(sink)
    sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_pixel_of_a_finished_tile_written_again_raises(sink_type, tmp_path):
    whole = Box.of_shape((20, 30))
    pixels = np.zeros((1, 20, 30), np.uint8)
    sink = sink_type(tmp_path / name_of(sink_type), output((20, 30)))
    sink.write(Plane(), whole, pixels)
    with pytest.raises(CoverageError, match="written twice"):
        sink.write(Plane(), whole, pixels)
    sink.discard()


@pytest.mark.parametrize("missing", ["all", "plane", "pixels"])
def test_missing_pixels_raise_at_the_end(sink_type, tmp_path, missing):
    path = tmp_path / name_of(sink_type)
    image = output((20, 30), z=2)
    sink = sink_type(path, image)
    if missing == "plane":
        sink.write(Plane(0, 1), Box.of_shape((20, 30)), np.zeros((1, 20, 30), np.uint8))
    elif missing == "pixels":
        write_part(sink)
    with pytest.raises(CoverageError, match=r"not filled; the first is tile .* T=0 Z=0"):
        sink.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_nothing(sink_type, tmp_path, error):
    with pytest.raises(error), sink_type(tmp_path / name_of(sink_type), output((20, 30))) as sink:  # noqa: PT012
        write_part(sink)
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_exception_leaves_the_image_that_was_there(sink_type, tmp_path):
    path = tmp_path / name_of(sink_type)
    earlier = write_all(sink_type, path, output((9, 9)))
    with pytest.raises(RuntimeError), sink_type(path, output((20, 30))) as sink:  # noqa: PT012
        write_part(sink)
        raise RuntimeError
    assert content_of(path) == earlier
    write_all(sink_type, path, output((20, 30)))
    with open_source(path) as source:
        assert source.shape == (20, 30)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("plane", "box", "pixels"),
    [
        (Plane(), Box.of_shape((20, 30)), np.zeros((1, 20, 30), np.uint16)),
        (Plane(), Box.of_shape((20, 30)), np.zeros((2, 20, 30), np.uint8)),
        (Plane(), Box.of_shape((20, 30)), np.zeros((20, 30), np.uint8)),
        (Plane(), Box.of_shape((20, 31)), np.zeros((1, 20, 31), np.uint8)),
        (Plane(1, 0), Box.of_shape((20, 30)), np.zeros((1, 20, 30), np.uint8)),
    ],
)
def test_pixels_that_do_not_fit_are_a_defect(sink_type, tmp_path, plane, box, pixels):
    sink = sink_type(tmp_path / name_of(sink_type), output((20, 30)))
    with pytest.raises(ValueError, match=r"out\.ome\.\w+"):
        sink.write(plane, box, pixels)
    sink.discard()


def test_images_that_cannot_be_described_are_a_defect(sink_type, tmp_path):
    with pytest.raises(ValueError, match="no pixels"):
        output((0, 5))
    with pytest.raises(ValueError, match="2 channel names for 1 channels"):
        output((5, 5), metadata=ImageMetadata(channels=("a", "b")))
    with pytest.raises(ValueError, match="cannot write complex64"):
        sink_type(tmp_path / name_of(sink_type), output((5, 5), "complex64"))


def test_a_missing_folder_is_named(sink_type, tmp_path):
    path = tmp_path / "nowhere" / name_of(sink_type)
    with pytest.raises(OutputError, match=r"out\.ome\.\w+ cannot be written: .*nowhere is no"):
        sink_type(path, output((5, 5)))


def test_a_folder_of_the_same_name_is_named(tmp_path):
    path = tmp_path / "out.ome.tif"
    path.mkdir()
    with pytest.raises(OutputError, match="a folder has that name"):
        OmeTiffSink(path, output((5, 5)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(sink_type, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        sink_type(tmp_path / name_of(sink_type), output((5, 5)))


def test_a_file_where_the_work_folder_should_be_is_named(sink_type, tmp_path):
    (tmp_path / ".exactile").write_text("in the way")
    with pytest.raises(OutputError, match=r"out\.ome\.\w+ cannot be written"):
        sink_type(tmp_path / name_of(sink_type), output((5, 5)))


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


_WRITE_NOISE = """
    import os, resource, signal, sys
    from pathlib import Path
    import numpy as np
    from exactile.errors import OutputError
    from exactile.geometry import Box, Interval
    from exactile.images import OmeTiffSink, OutputImage, Plane

    path, limit, stop = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    image = OutputImage((2048, 1024), np.dtype(np.uint8))
    rng = np.random.default_rng(0)
    try:
        with OmeTiffSink(path, image) as sink:
            for index, rows in enumerate(Interval(0, 2048).split(1024)):
                if index == stop:
                    sink._wait()
                    os.kill(os.getpid(), signal.SIGKILL)
                pixels = rng.integers(0, 256, (1, 1024, 1024), np.uint8)
                sink.write(Plane(), Box((rows, Interval(0, 1024))), pixels)
    except OutputError as error:
        sys.exit(str(error))
"""


@pytest.mark.parametrize("limit", [500_000, 1_500_000, 2_097_300])
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, limit):
    """The limits are met in the first spool write, in the second, and by the whole file."""
    path = tmp_path / "out.ome.tif"
    path.write_bytes(b"from an earlier run")
    done = run_python(_WRITE_NOISE, str(path), str(limit), "-1")
    assert done.returncode == 1
    assert f"{path} cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"from an earlier run"


def test_a_killed_run_leaves_no_image_and_the_next_run_clears_up(tmp_path):
    path = tmp_path / "out.ome.tif"
    killed = run_python(_WRITE_NOISE, str(path), "0", "1")
    assert killed.returncode == -signal.SIGKILL
    leftovers = tmp_path / ".exactile"
    assert list(tmp_path.iterdir()) == [leftovers]
    assert any(p.is_file() for p in leftovers.rglob("*"))
    assert run_python(_WRITE_NOISE, str(path), "0", "-1").returncode == 0
    assert list(tmp_path.iterdir()) == [path]
    with open_source(path) as source:
        assert source.shape == (2048, 1024)


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((1, 1), "uint8", False),
        ((60_000, 60_000), "uint8", False),
        ((66_000, 66_000), "uint8", True),
        ((30_000, 30_000), "float32", False),
        ((33_000, 33_000), "float32", True),
    ],
)
def test_bigtiff_is_chosen_by_shape_and_dtype(shape, dtype, expected):
    assert needs_bigtiff(output(shape, dtype)) is expected


def test_bigtiff_output_reads_back(tmp_path, monkeypatch):
    monkeypatch.setattr("exactile.images.ome_tiff_sink._CLASSIC_TIFF_LIMIT", 0)
    path = tmp_path / "out.ome.tif"
    image = output((1030, 50), c=2)
    write_all(OmeTiffSink, path, image)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
        np.testing.assert_array_equal(tiff.asarray(), pixels_of(image)[0, :, 0])
