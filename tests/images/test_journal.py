"""What a journal promises, by itself and under an image that is being written."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from exactile.errors import OutputError
from exactile.geometry import Box, Interval
from exactile.images import OmeTiffSink, OutputImage, Plane, chunk_files, journal, open_sink, spool
from exactile.images.digest import FileDigest
from exactile.images.journal import Journal, ResumeError, differences, remove_leftovers
from exactile.images.journal_lines import make_line
from exactile.images.spool import PageSpool, Place
from exactile.images.work_folder import remove_empty, work_folder
from exactile.images.zarr_sink import ZarrSink

IDENTITY = {"the image": "a", "--precision": "float32"}
OTHER = {"the image": "a", "--precision": "bfloat16"}
IMAGE = OutputImage((2100, 1100), np.dtype(np.uint8), size_c=2, size_z=2)
BOXES = [
    (Plane(0, z), Box((rows, columns)))
    for z in range(2)
    for rows in Interval(0, 2100).split(700)
    for columns in Interval(0, 1100).split(1024)
]


def pixels_of(plane: Plane, box: Box) -> np.ndarray:
    rng = np.random.default_rng(plane.z)
    return rng.integers(0, 9, (2, *IMAGE.shape), np.uint8)[:, *box.slices]


def write(path: Path, boxes: list[tuple[Plane, Box]], fail: bool = False) -> None:
    """Write `boxes` as far as they are not stored, and finish the image unless it is to fail."""
    with (
        Journal(path, IDENTITY) as lines,
        open_sink(path, IMAGE, journal=lines) as sink,
    ):
        for plane, box in boxes:
            if not sink.has(plane, box):
                sink.write(plane, box, pixels_of(plane, box))
        sink._wait()
        if fail:
            raise RuntimeError("stopped")


def stop(path: Path, count: int) -> None:
    with pytest.raises(RuntimeError, match="stopped") as stopped:
        write(path, BOXES[:count], fail=True)
    kept = ["the same command goes on from what is stored"]
    assert getattr(stopped.value, "__notes__", []) == kept * work_folder(path).exists()


@pytest.fixture(scope="module", params=["out.ome.tif", "out.ome.zarr"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, name: str) -> FileDigest:
    """The image as an uninterrupted run writes it."""
    path = tmp_path_factory.mktemp("clean") / name
    with open_sink(path, IMAGE) as sink:
        for plane, box in BOXES:
            sink.write(plane, box, pixels_of(plane, box))
    return FileDigest.of(path)


# The lines


def open_anew(path: Path, identity: dict = IDENTITY, resume: str = "auto") -> Journal:
    return Journal(path, identity, resume)  # type: ignore[arg-type]


def begin(path: Path) -> Path:
    """Leave a journal with two tiles and two notes, and return its path."""
    with Journal(path, IDENTITY) as lines:
        lines.note({"window": [10, 20], "plane": "first"})
        lines.store(0, 3, Place(0, 5, 77))
        lines.note({"plane": "second"})
        lines.store(1, 2, Place(5, 6, 88))
    return work_folder(path) / "journal"


def test_what_was_stored_and_noted_is_found_again(tmp_path: Path) -> None:
    begin(tmp_path / "a.ome.tif")
    with Journal(tmp_path / "a.ome.tif", IDENTITY, "true") as lines:
        assert lines.tiles == {0: {3: Place(0, 5, 77)}, 1: {2: Place(5, 6, 88)}}
        assert lines.recorded == {"window": [10, 20], "plane": "second"}


def test_a_lost_tile_stays_lost(tmp_path: Path) -> None:
    begin(tmp_path / "a.ome.tif")
    for _ in range(2):
        with Journal(tmp_path / "a.ome.tif", IDENTITY) as lines:
            if 3 in lines.tiles[0]:
                lines.lose(0, 3)
            assert lines.tiles == {0: {}, 1: {2: Place(5, 6, 88)}}


def test_a_journal_that_is_cut_anywhere_says_what_it_said_at_that_moment(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    file = begin(path)
    whole = file.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole) + 1):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(whole[:length])
        with Journal(path, IDENTITY, "true") as lines:
            count = sum(end <= length for end in ends)
            assert (3 in lines.tiles.get(0, {})) == (count >= 3)
            assert (2 in lines.tiles.get(1, {})) == (count >= 5)
            assert (
                lines.recorded.get("plane")
                == [None, None, "first", "first", "second"][min(count, 4)]
            )
            assert file.read_bytes() == whole[: ends[max(count, 1) - 1]]


def test_what_follows_a_damaged_line_does_not_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = begin(tmp_path / "a.ome.tif")
    content = bytearray(file.read_bytes())
    content[content.index(b"77")] ^= 1
    file.write_bytes(content)
    with pytest.raises(ResumeError, match="its journal is damaged"):
        Journal(tmp_path / "a.ome.tif", IDENTITY, "true")
    with Journal(tmp_path / "a.ome.tif", IDENTITY) as lines:
        assert lines.tiles == {}
        assert lines.recorded == {"window": [10, 20], "plane": "first"}
    assert "the journal of an earlier run is damaged after" in caplog.text


@pytest.mark.parametrize("order", [[0, 1, 2, 2, 3, 4], [0, 1, 3, 4], [0, 3, 2, 1, 4]], ids=str)
def test_lines_that_were_doubled_left_out_or_moved_do_not_count(
    tmp_path: Path, order: list[int]
) -> None:
    file = begin(tmp_path / "a.ome.tif")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[index] for index in order))
    kept = next(i for i, index in enumerate(order) if index != i)
    with Journal(tmp_path / "a.ome.tif", IDENTITY) as found:
        assert found.tiles == ({0: {3: Place(0, 5, 77)}} if kept > 2 else {})


@pytest.mark.parametrize(
    "record",
    [
        {"tile": [0, 1, 2]},
        {"tile": [0, 1, 2, "3", 4]},
        {"tile": [True, 1, 2, 3, 4]},
        {"tile": [0, -1, 2, 3, 4]},
        {"tile": [0, 1, 2, 2**70, 4]},
        {"tile": [0, 1, 2, 0, 0]},
        {"tile": {"0": 1}},
        {"lost": [0, 7]},
        {"lost": None},
        {"note": []},
        {},
    ],
    ids=str,
)
def test_a_line_that_no_run_has_written_counts_as_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, record: dict
) -> None:
    file = begin(tmp_path / "a.ome.tif")
    checksum = int(file.read_bytes().splitlines()[-1][:8], 16)
    for each in (record, {"tile": [5, 5, 5, 5, 5]}):
        line, checksum = make_line(each, checksum)
        with file.open("ab") as end:
            end.write(line)
    with Journal(tmp_path / "a.ome.tif", IDENTITY) as lines:
        assert lines.tiles == {0: {3: Place(0, 5, 77)}, 1: {2: Place(5, 6, 88)}}
    assert "the journal of an earlier run is damaged after" in caplog.text


def test_tiles_that_the_image_does_not_have_are_left_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, clean: FileDigest
) -> None:
    stop(tmp_path / name, 5)
    with Journal(tmp_path / name, IDENTITY) as lines:
        lines.store(10**12, 0, Place(0, 5, 77))
        lines.store(0, 10**12, Place(0, 5, 77))
    write(tmp_path / name, BOXES)
    assert "its journal speaks of 2 tiles that the image does not have" in caplog.text
    assert FileDigest.of(tmp_path / name) == clean


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_journal_that_is_no_file_is_neither_read_nor_followed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.ome.tif"
    work_folder(path).mkdir(parents=True)
    (tmp_path / "elsewhere").write_text("theirs")
    if kind == "link":
        (work_folder(path) / "journal").symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(work_folder(path) / "journal")
    with pytest.raises(OutputError, match=r"a\.ome\.tif"):
        Journal(path, IDENTITY)
    assert (tmp_path / "elsewhere").read_text() == "theirs"


def test_tiles_without_a_journal_are_discarded_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = begin(tmp_path / "a.ome.tif")
    (file.parent / "page-000000").write_bytes(b"tiles")
    file.write_bytes(b"")
    with Journal(tmp_path / "a.ome.tif", IDENTITY):
        assert "its journal is damaged" in caplog.text
        assert [path.name for path in file.parent.iterdir()] == ["journal"]


def test_an_image_that_was_begun_again_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ome.tif"
    first = Journal(path, IDENTITY)
    begun = []

    def remove_slowly(folder: Path) -> None:
        begun.append(Journal(path, IDENTITY))
        remove_empty(folder)

    monkeypatch.setattr("exactile.images.journal.remove_empty", remove_slowly)
    first.discard()
    monkeypatch.undo()
    assert (work_folder(path) / "journal").exists()
    begun[0].discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("identity", "--precision was bfloat16, and is float32"),
        ("header", "its journal is damaged"),
        ("format", "its journal was written by another version of exactile"),
    ],
)
def test_a_journal_of_another_run_is_discarded_with_a_word_or_refused(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    spoil: str,
    said: str,
) -> None:
    path = tmp_path / "a.ome.tif"
    with monkeypatch.context() as patch:
        if spoil == "format":
            patch.setattr(journal, "FORMAT", 0)
        with Journal(path, OTHER if spoil == "identity" else IDENTITY) as lines:
            lines.store(0, 0, Place(0, 1, 2))
    file = work_folder(path) / "journal"
    (file.parent / "page-000000").write_bytes(b"1")
    if spoil == "header":
        content = bytearray(file.read_bytes())
        content[20] ^= 1
        file.write_bytes(content)
    before = file.read_bytes()
    with pytest.raises(ResumeError, match=f"cannot go on .*: {said}; .*--resume auto"):
        open_anew(path, resume="true")
    assert file.read_bytes() == before
    assert (file.parent / "page-000000").exists()
    with caplog.at_level(logging.INFO, "exactile"), open_anew(path) as lines:
        assert lines.tiles == {}
        assert list(file.parent.iterdir()) == [file]
    assert caplog.messages == [f"a.ome.tif: what an earlier run left is discarded: {said}"]
    assert list(tmp_path.iterdir()) == []


def test_lines_of_several_threads_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles of one plane are still being stored when the next plane's note is taken."""

    def write_slowly(descriptor: int, data: bytes, offset: int) -> None:
        time.sleep(0.001)
        written(descriptor, data, offset)

    written = journal.write_at
    monkeypatch.setattr(journal, "write_at", write_slowly)
    with (
        Journal(tmp_path / "a.ome.tif", IDENTITY) as lines,
        ThreadPoolExecutor(4) as pool,
    ):
        jobs = [pool.submit(lines.store, 0, tile, Place(0, tile, 0)) for tile in range(1, 41)]
        jobs += [pool.submit(lines.note, {f"plane {plane}": plane}) for plane in range(40)]
        for job in jobs:
            job.result()
    with Journal(tmp_path / "a.ome.tif", IDENTITY, "true") as lines:
        assert len(lines.tiles[0]) == len(lines.recorded) == 40


def test_beginning_anew_takes_nothing_over(tmp_path: Path) -> None:
    file = begin(tmp_path / "a.ome.tif")
    with Journal(tmp_path / "a.ome.tif", IDENTITY, "false") as lines:
        assert (lines.tiles, lines.recorded) == ({}, {})
        assert file.read_bytes().count(b"\n") == 1


def test_an_image_is_written_by_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    begin(path)
    with Journal(path, IDENTITY):
        for resume in ("auto", "true", "false"):
            with pytest.raises(ResumeError, match=r"a\.ome\.tif: another process is writing"):
                open_anew(path, resume=resume)
        remove_leftovers(path)
    open_anew(path, resume="true").close()
    remove_leftovers(path)
    assert list(tmp_path.iterdir()) == []


def test_file_systems_without_locks_are_written_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    begin(tmp_path / "a.ome.tif")
    with Journal(tmp_path / "a.ome.tif", IDENTITY, "true") as lines:
        assert lines.holds_tiles


def test_digests_that_differ_are_named_and_not_shown() -> None:
    old = {"the image": "0" * 64, "--channel": "all", "gone": "x"}
    new = {"the image": "1" * 64, "--channel": "0"}
    found = ["the image differs", "--channel was all, and is 0", "gone was x, and is None"]
    assert list(differences(old, new)) == found


def test_a_spool_goes_on_with_the_tiles_that_are_what_was_written(tmp_path: Path) -> None:
    first = PageSpool(tmp_path / "page")
    for number, data in enumerate((b"a" * 100, b"b" * 200, b"c" * 300)):
        first.append(number, data)
    content = bytearray((tmp_path / "page").read_bytes())
    content[150] ^= 1
    (tmp_path / "page").write_bytes(content[:-1])
    second = PageSpool(tmp_path / "page")
    assert second.take_over(first.places) == [1, 2]
    assert (tmp_path / "page").stat().st_size == 100
    second.append(1, b"B" * 50)
    assert list(second.read()) == [b"a" * 100, b"B" * 50]


# Under an image


@pytest.mark.parametrize("count", range(len(BOXES) + 1))
def test_an_image_that_is_gone_on_with_has_the_bytes_of_an_uninterrupted_one(
    tmp_path: Path, clean: FileDigest, name: str, count: int
) -> None:
    path = tmp_path / name
    stop(path, count)
    assert not path.exists()
    write(path, BOXES)
    assert FileDigest.of(path) == clean
    assert list(tmp_path.iterdir()) == [path]


def test_other_boxes_may_complete_it(tmp_path: Path, clean: FileDigest, name: str) -> None:
    """A box may then meet tiles that are stored, and tiles that are not."""
    path = tmp_path / name
    stop(path, 5)
    write(path, [(plane, Box.of_shape(IMAGE.shape)) for plane in IMAGE.planes])
    assert FileDigest.of(path) == clean


def test_a_box_is_stored_when_every_tile_that_it_meets_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    stop(path, 3)
    with Journal(path, IDENTITY) as lines, open_sink(path, IMAGE, journal=lines) as sink:
        plane = Plane(0, 0)
        assert sink.has(plane, Box((Interval(0, 1024), Interval(0, 1024))))
        assert sink.has(plane, Box((Interval(1000, 1001), Interval(10, 20))))
        assert not sink.has(plane, Box((Interval(1000, 1025), Interval(10, 20))))
        assert not sink.has(plane, Box((Interval(0, 1), Interval(1023, 1025))))
        assert not sink.has(Plane(0, 1), Box((Interval(0, 1), Interval(0, 1))))
        sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_damaged_tiles_are_made_again(
    tmp_path: Path, clean: FileDigest, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / name
    stop(path, len(BOXES))
    zarr_or_tiff = {".tif": "page-000001", ".zarr": "whole/0/0/0/1/1/0"}
    page = work_folder(path) / zarr_or_tiff[path.suffix]
    content = bytearray(page.read_bytes())
    content[len(content) // 2] ^= 1
    page.write_bytes(content)
    write(path, BOXES)
    assert FileDigest.of(path) == clean
    assert caplog.messages == [f"{name}: 1 stored tiles are damaged, and are made again"]


def test_a_run_killed_at_any_write_is_gone_on_with_exactly(
    tmp_path: Path, clean: FileDigest, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the folder in the middle of each write, and after it, is what a kill leaves."""
    out_dir = tmp_path / "out"
    out_dir.mkdir()
    copies: list[Path] = []

    def copy() -> None:
        copies.append(tmp_path / f"killed_{len(copies)}")
        shutil.copytree(out_dir, copies[-1])

    def slow(whole: Callable[[int, bytes, int], None]) -> Callable[[int, bytes, int], None]:
        def write_slowly(descriptor: int, data: bytes, offset: int) -> None:
            half = len(data) // 2
            whole(descriptor, data[:half], offset)
            copy()
            whole(descriptor, data[half:], offset + half)
            copy()

        return write_slowly

    kind = OmeTiffSink if name.endswith(".tif") else ZarrSink
    put_together = kind._put_together

    def put_together_slowly(sink: OmeTiffSink | ZarrSink, whole: Path) -> None:
        put_together(sink, whole)
        copy()
        last = whole if whole.is_file() else whole / ".zattrs"
        last.write_bytes(last.read_bytes()[:1000])
        copy()
        put_together(sink, whole)

    with monkeypatch.context() as patch:
        patch.setattr(spool, "write_at", slow(spool.write_at))
        patch.setattr(journal, "write_at", slow(journal.write_at))
        patch.setattr(chunk_files, "write_at", slow(chunk_files.write_at))
        patch.setattr(kind, "_put_together", put_together_slowly)
        write(out_dir / name, BOXES)
    assert len(copies) > 30
    for folder in copies[::5] + copies[-2:]:
        write(folder / name, BOXES)
        assert FileDigest.of(folder / name) == clean
        assert [path.name for path in folder.iterdir()] == [name]


def test_a_failing_disk_keeps_what_is_stored(
    tmp_path: Path, clean: FileDigest, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    calls = iter(range(100))

    def full(descriptor: int, data: bytes, offset: int) -> None:
        if next(calls) == 3:
            written(descriptor, data[:10], offset)
            raise OSError(28, "No space left on device")
        written(descriptor, data, offset)

    written = spool.write_at
    monkeypatch.setattr(spool, "write_at", full)
    monkeypatch.setattr(chunk_files, "write_at", full)
    with pytest.raises(OutputError) as failed:
        write(path, BOXES)
    monkeypatch.undo()
    assert f"{path} cannot be written: No space left on device" in str(failed.value)
    assert failed.value.__notes__ == ["the same command goes on from what is stored"]
    with Journal(path, IDENTITY, "true") as lines:
        assert lines.holds_tiles
    write(path, BOXES)
    assert FileDigest.of(path) == clean
