"""Bad input, bad options, bad luck: one message, an exit code, and nothing under a final name.

Exit codes: 1 where an image failed or nothing could be done, 2 for wrong options, 130 and 143 when
stopped. A traceback is a defect; run in this process it fails the test by itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import noise_image, write_image, write_random_model
from program import Ended, arguments, call, files_in, finish, results_in, start

from exactile.images.digest import FileDigest
from exactile.inputs import digest_input

NAME = "image.ome.tif"


def run(tmp_path: Path, model: Path, **options: object) -> Ended:
    return call(arguments(tmp_path / "in", tmp_path / "out", model=model, **options))


def refuse(tmp_path: Path, model: Path, *said: str, **options: object) -> None:
    """Run on the only image, which must fail for a reason that contains all of `said`."""
    ended = run(tmp_path, model, **options)
    assert ended.code == 1
    reason, summary = ended.errors
    path = tmp_path / "in" / NAME
    assert reason.startswith(f"failed: {path}")
    assert [text for text in said if text not in reason] == []
    assert summary == f"1 of 1 images failed: {NAME}"
    assert files_in(tmp_path / "out") == []


# Folders


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    ended = call(arguments(tmp_path / "nowhere", tmp_path / "out"))
    assert ended.code == 1
    assert ended.errors == [f"{tmp_path}/nowhere does not exist: give the folder of images"]
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    ended = call(arguments(tmp_path / "in", tmp_path / "out"))
    assert ended.code == 1
    assert ended.errors == [f"{tmp_path}/in is empty: it holds no images to segment"]
    assert not (tmp_path / "out").exists()


def test_no_match_names_folder_pattern_and_how_many_files_were_there(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.ome.tif", "b.ome.tif", "notes.txt"):
        (tmp_path / "in" / name).touch()
    ended = call(arguments(tmp_path / "in", tmp_path / "out", filePattern=r"img_{r:d}\.ome\.tif"))
    assert ended.code == 1
    (message,) = ended.errors
    assert f"none of the 3 files in {tmp_path}/in" in message
    assert repr(r"img_{r:d}\.ome\.tif") in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("chained", [False, True])
def test_results_never_go_into_the_folder_of_the_images(tmp_path: Path, chained: bool) -> None:
    folder = tmp_path / "images" if chained else tmp_path
    write_image(folder / NAME, noise_image((50, 60)))
    before = (folder / NAME).read_bytes()
    for out_dir in {tmp_path, folder}:
        ended = call(arguments(tmp_path, out_dir / ".." / out_dir.name))
        assert ended.code == 1
        assert "is the folder of the images" in ended.errors[0]
        assert files_in(folder) == [NAME]
        assert (folder / NAME).read_bytes() == before


# Files


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty (0 bytes)"),
        (b"these are notes, not pixels\n" * 50, "is not a TIFF image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), "is not a TIFF image"),
        (b"II*\0" + bytes(500), "damaged"),
    ],
)
def test_a_file_that_is_no_image_is_named(
    tmp_path: Path, small_model: Path, content: bytes, said: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / NAME).write_bytes(content)
    refuse(tmp_path, small_model, said)


@pytest.mark.parametrize("kept", [5, 12, 200, 0.3, 0.6, 0.9, -1])
@pytest.mark.parametrize("layout", ["ours", "strips"])
def test_a_truncated_file_is_named(
    tmp_path: Path, small_model: Path, layout: str, kept: float
) -> None:
    path, pixels = tmp_path / "in" / NAME, noise_image((300, 200))
    write_image(path, pixels)
    if layout == "strips":
        tifffile.imwrite(path, pixels, ome=True, compression="lzw", rowsperstrip=16)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))] if 0 < kept < 1 else data[: int(kept)])
    refuse(tmp_path, small_model)


@pytest.mark.parametrize("side", [256, 1024])
def test_a_corrupt_tile_in_the_middle_is_named_with_its_place(
    tmp_path: Path, small_model: Path, side: int
) -> None:
    path = tmp_path / "in" / NAME
    path.parent.mkdir()
    pixels = noise_image((3 * side, 2 * side))[None, None, None]
    tiles = {"tile": (side, side), "compression": "zlib", "metadata": {"axes": "TCZYX"}}
    tifffile.imwrite(path, pixels, ome=True, **tiles)
    with tifffile.TiffFile(path) as tiff:
        offset, length = tiff.pages[0].dataoffsets[2], tiff.pages[0].databytecounts[2]
    with path.open("r+b") as file:
        file.seek(offset + length // 2)
        file.write(bytes(100))
    refuse(tmp_path, small_model, "tile (row 1, column 0)", "damaged there")


@pytest.mark.parametrize(
    ("channels", "options", "said"),
    [
        (3, {}, ("3 channels would go to a model that takes 1", "--channel 0")),
        (3, {"channel": "0,2"}, ("2 channels would go to a model that takes 1",)),
        (3, {"channel": "3"}, ("has 3 channels, numbered from 0", "--channel 3 does not exist")),
        (1, {"channel": "1"}, ("has 1 channel, numbered from 0", "--channel 1 does not exist")),
    ],
)
def test_channels_that_do_not_fit_the_model_are_said(
    tmp_path: Path, small_model: Path, channels: int, options: dict, said: tuple
) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((channels, 1, 50, 60)))
    refuse(tmp_path, small_model, *said, **options)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_not_finite_is_named_with_its_place(
    tmp_path: Path, small_model: Path, value: float
) -> None:
    """In the last plane: those before it are segmented by then."""
    pixels = noise_image((2, 1, 1, 60, 70), dtype=np.float32)
    pixels[1, 0, 0, 31, 42] = value
    write_image(tmp_path / "in" / NAME, pixels)
    refuse(tmp_path, small_model, f"y=31, x=42 (plane t=1, z=0, channel 0) is {value}")


@pytest.mark.parametrize("value", [1e39, -1e300])
def test_a_pixel_beyond_float32_is_named_instead_of_becoming_infinite(
    tmp_path: Path, small_model: Path, value: float
) -> None:
    pixels = noise_image((60, 70), dtype=np.float64)
    pixels[31, 42] = value
    write_image(tmp_path / "in" / NAME, pixels)
    refuse(tmp_path, small_model, f"y=31, x=42 (plane t=0, z=0, channel 0) is {value}")


def test_a_bad_image_stops_no_other_and_is_named_at_the_end(
    tmp_path: Path, small_model: Path
) -> None:
    """In a process of its own: libraries that log their tracebacks would be seen."""
    good, bad = tmp_path / "good", tmp_path / "in"
    for folder in (good, bad):
        write_image(folder / "a.ome.tif", noise_image((300, 200)))
        write_image(folder / "z.ome.tif", noise_image((200, 300), 1))
    data = (bad / "a.ome.tif").read_bytes()
    for number, part in enumerate((0, 0.1, 0.5, 0.9)):
        (bad / f"cut_{number}.ome.tif").write_bytes(data[: int(part * len(data))])
    (bad / "corrupt.ome.tif").write_bytes(data[:-9000] + bytes(4000) + data[-5000:])
    (bad / "text.ome.tif").write_text("notes")
    write_image(bad / "two.ome.tif", noise_image((2, 1, 50, 50)))
    process = start(arguments(bad, tmp_path / "out", model=small_model))
    assert call(arguments(good, tmp_path / "clean", model=small_model)).code == 0
    ended = finish(process)
    assert ended.code == 1
    names = [*(f"c{n}.ome.tif" for n in ("orrupt", "ut_0", "ut_1", "ut_2", "ut_3"))]
    names += ["text.ome.tif", "two.ome.tif"]
    assert len(ended.errors) == len(names) + 1
    for name, message in zip(names, ended.errors, strict=False):
        assert f"failed: {bad / name}" in message
    assert ended.errors[-1] == f"7 of 9 images failed: {', '.join(names)}"
    assert "2 of 9 images done" in ended.log
    assert "Traceback" not in ended.log
    assert files_in(tmp_path / "out") == files_in(tmp_path / "clean")
    for name in ("a.ome.tif", "z.ome.tif"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "clean" / name).read_bytes()


# Options


def test_a_tile_size_below_the_halos_says_the_least_that_works_and_it_does(
    tmp_path: Path, small_model: Path
) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((40, 50)))
    ended = run(tmp_path, small_model, tileSize=13)
    assert ended.code == 1
    (message,) = ended.errors
    assert "--tileSize 13 is too small for random: its halo is 6 and 6 px" in message
    assert "use at least 14, or auto" in message
    assert files_in(tmp_path / "out") == []
    assert run(tmp_path, small_model, tileSize=14).code == 0
    with_least = tifffile.imread(tmp_path / "out" / NAME)
    assert run(tmp_path, small_model).code == 0
    assert np.array_equal(with_least, tifffile.imread(tmp_path / "out" / NAME))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("outputType", "masks", "is not one of 'labels', 'probabilities' or 'logits'"),
        ("outputType", "Labels", "is not one of"),
        ("tileSize", "0", "is not a window side in pixels"),
        ("tileSize", "-512", "is not a window side in pixels"),
        ("tileSize", "512.5", "is not a window side in pixels"),
        ("tileSize", "big", "is not a window side in pixels"),
        ("tileSize", "9" * 5000, "--tileSize"),
        ("verify", "-3", "is not a number of zones"),
        ("verify", "some", "is not a number of zones"),
        ("verify", "9" * 5000, "--verify"),
        ("normalization", "rank", "is not a normalization"),
        ("normalization", "percentile:99:1", "is not a range of percentiles"),
        ("device", "tpu", "is not a device; use auto, cpu, cuda, or cuda:N"),
        ("device", "cuda:", "is not a device"),
        ("device", "cuda:99", "--device auto"),
        ("precision", "float16", "is not one of 'float32' or 'bfloat16'"),
        ("channel", "red", "is not a channel; use a number from 0"),
        ("channel", "0,", "is not a channel"),
        ("channel", "-1", "is not a channel"),
        ("channel", "²", "is not a channel"),
    ],
)
def test_a_value_that_makes_no_sense_is_named_with_what_is_allowed(
    tmp_path: Path, name: str, value: str, said: str
) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((40, 50)))
    ended = call(arguments(tmp_path / "in", tmp_path / "out", **{name: value}))
    assert ended.code == 2
    (message,) = ended.errors
    assert f"--{name}" in message
    assert said in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POLUS_LOG", "LOUD"),
        ("POLUS_IMG_EXT", ".n5"),
        ("POLUS_IMG_EXT", ".png"),
        ("NUM_THREADS", "0"),
        ("NUM_THREADS", "-1"),
        ("NUM_THREADS", "two"),
        ("NUM_THREADS", "²"),
        ("NUM_THREADS", "99999999999"),
    ],
)
def test_an_environment_variable_that_makes_no_sense_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((40, 50)))
    ended = call(arguments(tmp_path / "in", tmp_path / "out"), **{name: value})
    assert ended.code == 2
    assert name in ended.log
    assert value in ended.log
    assert len(ended.log.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--inpDir", "in"], "--outDir"),
        (["--outDir", "out"], "--inpDir"),
        (["--inpDir", "", "--outDir", "out"], "--inpDir is missing"),
        (["--inpDir", "in", "--outDir", "out", "--tileSise", "512"], "--tileSise"),
        (["--inpDir", "in", "--outDir", "out", "stray"], "stray"),
        (["--inpDir", "in", "--outDir", "out", "--preview", "yes"], "yes"),
        (["--inpDir", "in", "--outDir", "out", "--preview=maybe"], "neither true nor false"),
        (["--inpDir", "in", "--outDir", "out", "--model"], "--model"),
    ],
)
def test_options_that_are_missing_or_unknown_are_named(words: list[str], said: str) -> None:
    ended = call(["segment", *words])
    assert ended.code == 2
    assert said in ended.log


def test_a_pattern_that_makes_no_sense_is_named(tmp_path: Path, small_model: Path) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((40, 50)))
    ended = run(tmp_path, small_model, filePattern="[")
    assert ended.code == 1
    assert "--filePattern '[' is not understood" in ended.errors[0]


@pytest.mark.parametrize("name", ["nowhere", "n" * 300])
def test_a_model_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((40, 50)))
    ended = run(tmp_path, tmp_path / name)
    assert ended.code == 1
    assert f"{tmp_path / name}: cannot be read" in ended.errors[0]
    assert not (tmp_path / "out").exists()


# Room for small windows beside what every thread reserves, though not for large ones. With 2^29
# bytes native libraries now and then found no room for anything at all.
LITTLE_MEMORY = """
import resource
import exactile.segment
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29 + 2**28, used + 2**29 + 2**28))
"""


@pytest.mark.slow
def test_windows_too_large_for_the_memory_give_way_to_smaller_ones(tmp_path: Path) -> None:
    write_random_model(tmp_path / "model", base_width=16, depth=1, convolutions=1)
    write_image(tmp_path / "in" / NAME, noise_image((2200, 2300), dtype=np.uint8))
    out, ample = tmp_path / "out", tmp_path / "ample"
    words = arguments(tmp_path / "in", out, model=tmp_path / "model", tileSize=2000)
    ended = finish(start(words, LITTLE_MEMORY, NUM_THREADS="1"))
    assert ended.code == 0, ended.log
    assert "memory ran out with windows of 2000 x 2000" in ended.log
    assert call(arguments(tmp_path / "in", ample, model=tmp_path / "model")).code == 0
    assert (out / NAME).read_bytes() == (ample / NAME).read_bytes()


# Outputs


@pytest.mark.parametrize("name", ["file", "file/below", "o" * 300])
def test_an_output_folder_that_cannot_be_made_is_named(
    tmp_path: Path, small_model: Path, name: str
) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((40, 50)))
    (tmp_path / "file").write_text("in the way")
    out_dir = tmp_path / name
    for words in ([], ["--preview"]):
        ended = call(arguments(tmp_path / "in", out_dir, *words, model=small_model))
        assert ended.code == 1
        (message,) = ended.errors
        assert message.startswith(f"--outDir {out_dir}: cannot be made")
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_without_permission_is_named(tmp_path: Path, small_model: Path) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((40, 50)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o500)
    ended = run(tmp_path, small_model)
    assert ended.code == 1
    assert f"--outDir {tmp_path}/out: is not writable" in ended.errors[0]


def test_a_folder_in_the_place_of_a_result_fails_that_image(
    tmp_path: Path, small_model: Path
) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((40, 50)))
    (tmp_path / "out" / NAME).mkdir(parents=True)
    ended = run(tmp_path, small_model)
    assert ended.code == 1
    assert f"{tmp_path}/out/{NAME} cannot be written: a folder has that name" in ended.errors[0]
    assert files_in(tmp_path / "out") == []


@pytest.mark.parametrize("earlier", [False, True])
def test_an_image_without_its_certificate_gets_no_final_name(
    tmp_path: Path, small_model: Path, earlier: bool
) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((40, 50)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "certificates").write_text("in the way")
    if earlier:
        (tmp_path / "out" / NAME).write_bytes(b"from an earlier run")
    ended = run(tmp_path, small_model)
    assert ended.code == 1
    assert "the certificate cannot be written" in ended.errors[0]
    left = [name for name in files_in(tmp_path / "out") if not name.startswith(".exactile")]
    assert left == ["certificates", NAME][: 1 + earlier]
    if earlier:
        assert (tmp_path / "out" / NAME).read_bytes() == b"from an earlier run"


@pytest.mark.parametrize("failure", ["truncated", "tile size", "no channel"])
def test_a_failing_run_leaves_an_earlier_result_and_its_certificate_as_they_were(
    tmp_path: Path, small_model: Path, failure: str
) -> None:
    path = write_image(tmp_path / "in" / NAME, noise_image((300, 200)))
    assert run(tmp_path, small_model).code == 0
    names = results_in(tmp_path / "out")
    before = [(tmp_path / "out" / name).read_bytes() for name in names]
    options: dict[str, object] = {}
    if failure == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    else:
        options = {"tileSize": 8} if failure == "tile size" else {"channel": 4}
    assert run(tmp_path, small_model, **options).code == 1
    assert results_in(tmp_path / "out") == names
    assert [(tmp_path / "out" / name).read_bytes() for name in names] == before


FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"


def test_a_full_disk_fails_the_image_and_leaves_the_earlier_result(
    tmp_path: Path, small_model: Path
) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((300, 200)))
    out_dir = tmp_path / "out"
    out_dir.mkdir()
    (out_dir / NAME).write_bytes(b"from an earlier run")
    words = arguments(tmp_path / "in", out_dir, model=small_model, outputType="logits")
    ended = finish(start(words, FULL.format(limit=100_000)))
    assert ended.code == 1
    reason, summary = ended.errors
    assert f"failed: {out_dir / NAME} cannot be written: File too large" in reason
    assert summary == f"1 of 1 images failed: {NAME}"
    assert "Traceback" not in ended.log
    assert files_in(out_dir) == [NAME]
    assert (out_dir / NAME).read_bytes() == b"from an earlier run"


def test_a_preview_that_does_not_fit_the_disk_leaves_none(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((40, 50)))
    words = arguments(tmp_path / "in", tmp_path / "out", "--preview")
    ended = finish(start(words, FULL.format(limit=20)))
    assert ended.code == 1
    (message,) = ended.errors
    assert message == f"{tmp_path}/out/preview.json: cannot be written (File too large)"
    assert files_in(tmp_path / "out") == []


# Stopped


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Path:
    """A folder with an image of several seconds (in/), and its result (clean/)."""
    folder = tmp_path_factory.mktemp("long")
    write_image(folder / "in" / NAME, noise_image((6144, 1024)))
    assert call(arguments(folder / "in", folder / "clean", model=small_model)).code == 0
    return folder


def start_and_wait_for_tiles(long: Path, out_dir: Path, model: Path) -> subprocess.Popen[str]:
    """Start a run, and return when it has written the first tiles to its work folder."""
    # A shell may have started the tests with SIGINT ignored, which is inherited.
    first = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    process = start(arguments(long / "in", out_dir, model=model), first)
    deadline = time.monotonic() + 100
    while not list(out_dir.glob(".exactile/*/page*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    assert not (out_dir / NAME).exists()
    return process


def test_a_killed_run_leaves_no_final_name_and_the_next_completes(
    tmp_path: Path, long: Path, small_model: Path
) -> None:
    process = start_and_wait_for_tiles(long, tmp_path, small_model)
    process.kill()
    assert finish(process).code == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [".exactile"]
    assert call(arguments(long / "in", tmp_path, model=small_model)).code == 0
    assert files_in(tmp_path) == files_in(long / "clean")
    assert (tmp_path / NAME).read_bytes() == (long / "clean" / NAME).read_bytes()


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_stopped_run_says_so_and_keeps_what_is_stored(
    tmp_path: Path, long: Path, small_model: Path, number: int, code: int, word: str
) -> None:
    """`timeout` sends its signal twice; the second must not disturb the clearing up."""
    process = start_and_wait_for_tiles(long, tmp_path, small_model)
    process.send_signal(number)
    time.sleep(0.02)
    process.send_signal(number)
    ended = finish(process)
    assert ended.code == code
    said = (
        "nothing unfinished was left under a final name; the same command goes on from what is "
        "stored"
    )
    assert ended.errors == [f"{word}; {said}"]
    assert "Traceback" not in ended.log
    assert [path.name for path in tmp_path.iterdir()] == [".exactile"]


def test_what_nobody_thought_of_fails_its_image_alone_and_is_one_message(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.ome.tif", "b.ome.tif"):
        write_image(tmp_path / "in" / name, noise_image((40, 30)))

    def fail(settings: object, path: Path) -> FileDigest:
        if path.name == "a.ome.tif":
            raise ZeroDivisionError("by nothing")
        return digest_input(settings, path)  # type: ignore[arg-type]

    monkeypatch.setattr("exactile.segment.digest_input", fail)
    ended = call(arguments(tmp_path / "in", tmp_path / "out", model=small_model))
    assert ended.code == 1
    message, _ = ended.errors
    assert "a.ome.tif: unexpected ZeroDivisionError (by nothing)" in message
    assert "Traceback" not in ended.log
    assert [path.name for path in (tmp_path / "out").glob("*.tif")] == ["b.ome.tif"]


def test_what_is_no_image_beside_images_fails_by_name_and_the_others_are_done(
    tmp_path: Path, small_model: Path
) -> None:
    folder = tmp_path / "in"
    write_image(folder / "good.ome.tif", noise_image((20, 30)))
    (folder / "gone.ome.tif").symlink_to("/nowhere/gone.ome.tif")
    (folder / "folder.ome.tif").mkdir()
    os.mkfifo(folder / "pipe.ome.tif")
    latin = os.fsdecode(b"Zelle-\xfc.ome.tif")
    shutil.copy(folder / "good.ome.tif", folder / latin)
    ended = call(arguments(folder, tmp_path / "out", model=small_model))
    assert ended.code == 1
    assert [path.name for path in (tmp_path / "out").glob("*.tif")] == ["good.ome.tif"]
    said = ("gone.ome.tif is a link to", "folder.ome.tif is a folder", "pipe.ome.tif is a pipe")
    for words in (*said, "has a name that is not UTF-8"):
        assert any(words in line for line in ended.errors), words
    assert (tmp_path / "out" / "exactile" / "report.html").read_text(encoding="utf-8")
