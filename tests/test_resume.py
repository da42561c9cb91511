"""Runs that end before they are done, and the runs that go on from there: the same bytes.

A run is ended by an exception in its own process where the place matters, and by a signal in a
process of its own where any place must do.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tifffile
from conftest import noise_image, write_image, write_random_model
from program import Ended, arguments, call, files_in, finish, results_in, start

from exactile.forward import ForwardPass
from exactile.images import OmeTiffSink
from exactile.images.journal import Journal
from exactile.images.work_folder import work_folder
from exactile.pipeline import compare_real_pixels

NAME = "image.ome.tif"
CERTIFICATE = f"certificates/{NAME}.json"
SHAPE = (2, 1, 1, 1100, 1060)
# Zones enough that most moments of a run have finished ones behind them.
TALL = (2, 1, 1, 4400, 1060)
"""Two planes of 2 x 2 writer tiles."""
SEVERAL_ZONES_PER_TILE, ONE, SEVERAL_TILES_PER_ZONE = 528, 1040, 1070
ZONES = {SEVERAL_ZONES_PER_TILE: 18, ONE: 8, SEVERAL_TILES_PER_ZONE: 4}
"""Zones of both planes by the side of the windows."""
GOES_ON = "the same command goes on from what is stored"

Passes = Callable[[], int]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the image, in in/."""
    write_image(tmp_path / "in" / NAME, noise_image(SHAPE))
    return tmp_path


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Callable[..., bytes]:
    """Give the output of an uninterrupted run on `folder` with such options."""
    made: dict[str, bytes] = {}

    def output(**options: object) -> bytes:
        if str(options) not in made:
            path = tmp_path_factory.mktemp("clean")
            write_image(path / "in" / NAME, noise_image(SHAPE))
            assert run(path, small_model, **options).code == 0
            made[str(options)] = (path / "out" / NAME).read_bytes()
        return made[str(options)]

    return output


def run(folder: Path, model: Path, **options: object) -> Ended:
    return call(arguments(folder / "in", folder / "out", model=model, **options))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the passes over zones, and fail the one that is named by `passes[1]`, from 0."""
    counted = [0, -1]
    start_pass = ForwardPass.start

    def count(self: ForwardPass, *rest: object) -> object:
        if counted[0] == counted[1]:
            raise RuntimeError("the network stumbles")
        counted[0] += 1
        return start_pass(self, *rest)  # type: ignore[arg-type]

    def compare(*rest: object) -> object:
        """Count nothing of the check on the image's pixels, which is no pass over a zone."""
        before, counted[1] = counted[:], -1
        try:
            return compare_real_pixels(*rest)  # type: ignore[arg-type]
        finally:
            counted[:] = before

    monkeypatch.setattr(ForwardPass, "start", count)
    monkeypatch.setattr("exactile.segmentation.compare_real_pixels", compare)
    return counted


def stop_at(folder: Path, model: Path, passes: list[int], zone: int, **options: object) -> Ended:
    """Run until the pass over `zone` fails, and forget what was counted."""
    passes[:] = [0, zone]
    ended = run(folder, model, **options)
    assert ended.code == 1
    passes[:] = [0, -1]
    return ended


def journal_of(folder: Path) -> Path:
    return work_folder(folder / "out" / NAME) / "journal"


def stored(folder: Path) -> list[list[int]]:
    """Return page, tile, offset, length and checksum of each tile that the journal has."""
    return tiles_in(journal_of(folder))


def tiles_in(journal: Path) -> list[list[int]]:
    lines = journal.read_bytes().split(b"\n")[:-1]  # the last one may have been cut
    return [record["tile"] for line in lines if "tile" in (record := json.loads(line[9:]))]


def certificate(folder: Path) -> dict:
    content: dict = json.loads((folder / "out" / CERTIFICATE).read_text())
    return content


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


# What is left is done, and nothing else


@pytest.mark.parametrize("output", ["labels", "probabilities"])
@pytest.mark.parametrize("zone", [6, 14])
def test_tiles_that_are_stored_are_not_made_again(
    folder: Path, small_model: Path, clean: Callable, passes: list[int], output: str, zone: int
) -> None:
    """A zone is 512 px here: four of them for each tile, fewer at the edges."""
    options = {"tileSize": SEVERAL_ZONES_PER_TILE, "outputType": output}
    ended = stop_at(folder, small_model, passes, zone, **options)
    assert GOES_ON in ended.errors[0]
    assert files_in(folder / "out")[0].startswith(".exactile")
    assert not (folder / "out" / NAME).exists()
    channels = 1 if output == "labels" else 2
    tiles = Counter((page // channels, tile) for page, tile, *_ in stored(folder))
    whole = [tile for (_, tile), pages in tiles.items() if pages == channels]
    kept = sum((2, 1)[tile // 2] * (2, 1)[tile % 2] for tile in whole)
    assert kept > 0
    ended = run(folder, small_model, **options)
    assert ended.code == 0
    assert passes[0] == 18 - kept
    assert f"{NAME}: goes on from {kept} of 18 zones that an earlier run stored" in ended.log
    assert (folder / "out" / NAME).read_bytes() == clean(**options)
    plan = certificate(folder)["plan"]
    assert (plan["zones_run"], plan["zones_resumed"]) == (18 - kept, kept)
    assert results_in(folder / "out") == [CERTIFICATE, NAME]


@pytest.mark.parametrize("tile", [ONE, SEVERAL_TILES_PER_ZONE])
def test_zones_of_a_tile_or_more_are_gone_on_with(
    folder: Path, small_model: Path, clean: Callable, passes: list[int], tile: int
) -> None:
    total = ZONES[tile]
    stop_at(folder, small_model, passes, total - 1, tileSize=tile)
    assert run(folder, small_model, tileSize=tile).code == 0
    assert 1 <= passes[0] < total
    assert certificate(folder)["plan"]["zones_run"] == passes[0]
    assert (folder / "out" / NAME).read_bytes() == clean(tileSize=tile)


def test_a_zone_that_is_stored_in_part_is_made_once_more_and_fits(
    folder: Path, small_model: Path, clean: Callable, passes: list[int]
) -> None:
    stop_at(folder, small_model, passes, 3, tileSize=SEVERAL_TILES_PER_ZONE)
    lines = journal_of(folder).read_bytes().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if b'{"tile"' in line)
    journal_of(folder).write_bytes(b"".join(lines[: first + 1]))
    assert run(folder, small_model, tileSize=SEVERAL_TILES_PER_ZONE).code == 0
    assert passes[0] == 4
    assert (folder / "out" / NAME).read_bytes() == clean(tileSize=SEVERAL_TILES_PER_ZONE)


def test_a_run_that_stops_again_and_again_ends_all_the_same(
    folder: Path, small_model: Path, clean: Callable, passes: list[int]
) -> None:
    for zone in (5, 4, 6, 1):
        stop_at(folder, small_model, passes, zone, tileSize=SEVERAL_ZONES_PER_TILE)
    assert run(folder, small_model, tileSize=SEVERAL_ZONES_PER_TILE).code == 0
    assert (folder / "out" / NAME).read_bytes() == clean(tileSize=SEVERAL_ZONES_PER_TILE)


def test_the_certificate_of_a_resumed_run_says_the_same_of_the_image(
    folder: Path, small_model: Path, passes: list[int]
) -> None:
    stop_at(folder, small_model, passes, 7, tileSize=ONE)
    assert run(folder, small_model, tileSize=ONE).code == 0
    resumed = certificate(folder)
    assert run(folder, small_model, tileSize=ONE, resume="false").code == 0
    again = certificate(folder)
    for name in ("input", "identity", "file", "model", "bit_stability", "claim"):
        assert resumed[name] == again[name]
    assert resumed["plan"]["zones_resumed"] > 0
    assert again["plan"]["zones_resumed"] == 0


def test_a_run_killed_between_the_image_and_its_certificate_ends_with_both(
    folder: Path,
    small_model: Path,
    clean: Callable,
    passes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A copy of the folder at that moment is what a kill leaves."""
    close, killed = OmeTiffSink.close, folder / "killed"

    def close_and_copy(sink: OmeTiffSink) -> None:
        close(sink)
        if not killed.exists():
            shutil.copytree(folder / "out", killed)

    with monkeypatch.context() as patch:
        patch.setattr(OmeTiffSink, "close", close_and_copy)
        assert run(folder, small_model, tileSize=ONE).code == 0
    assert (killed / NAME).exists()
    assert not (killed / CERTIFICATE).exists()
    passes[0] = 0
    words = arguments(folder / "in", killed, model=small_model, tileSize=ONE)
    assert call(words).code == 0
    assert passes[0] == 0
    assert (killed / NAME).read_bytes() == clean(tileSize=ONE)
    assert results_in(killed) == [CERTIFICATE, NAME]
    assert "already done" in call(words).log


# What differs is never mixed in


@pytest.mark.parametrize("spoil", ["torn", "data", "missing"])
def test_damage_costs_the_tiles_that_it_meets(
    folder: Path, small_model: Path, clean: Callable, passes: list[int], spoil: str
) -> None:
    stop_at(folder, small_model, passes, 7, tileSize=ONE)
    kept = len(stored(folder))
    path = journal_of(folder)
    if spoil == "torn":
        path.write_bytes(path.read_bytes()[:-5])
    elif spoil == "data":
        flip(path.with_name("page-000000"), -3)
    else:
        kept -= sum(1 for page, *_ in stored(folder) if page == 0) - 1
        path.with_name("page-000000").unlink()
    ended = run(folder, small_model, tileSize=ONE)
    assert ended.code == 0
    assert ("are damaged, and are made again" in ended.log) == (spoil != "torn")
    assert passes[0] == 8 - kept + 1
    assert (folder / "out" / NAME).read_bytes() == clean(tileSize=ONE)


def other_image(folder: Path, model: Path) -> dict[str, object]:
    """Write other pixels of the same size, at the same time by the file's word."""
    path = folder / "in" / NAME
    before = path.stat()
    content = tifffile.memmap(path, mode="r+")
    content[..., 30, 30] ^= 1
    content.flush()
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return {"model": model}


def other_model(folder: Path, _: Path) -> dict[str, object]:
    write_random_model(folder / "model", seed=1, depth=1, convolutions=1, base_width=2)
    return {"model": folder / "model"}


def other_header(folder: Path, model: Path) -> dict[str, object]:
    flip(journal_of(folder), 30)
    return {"model": model}


CHANGES: dict[str, tuple[Callable[[Path, Path], dict[str, object]], str]] = {
    "image": (other_image, "the image differs"),
    "model": (other_model, "the model differs"),
    "tile": (lambda _, m: {"model": m, "tileSize": 528}, "--tileSize was 146, and is 528"),
    "output": (
        lambda _, m: {"model": m, "outputType": "logits"},
        "--outputType was labels, and is logits",
    ),
    "precision": (
        lambda _, m: {"model": m, "precision": "bfloat16"},
        "--precision was float32, and is bfloat16",
    ),
    "header": (other_header, "its journal is damaged"),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Path:
    """A folder with an image that lies uncompressed in its file, and a run on it that stopped."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "in").mkdir()
    tifffile.imwrite(folder / "in" / NAME, noise_image((1300, 40)), ome=True)
    first = """
from exactile.pipeline import Sink
from exactile.images import OmeTiffSink
_write = OmeTiffSink._write
def write(self, plane, box, pixels):
    _write(self, plane, box, pixels)
    self._wait()
    if self.has(plane, box):
        raise MemoryError("enough")
OmeTiffSink._write = write
"""
    words = arguments(folder / "in", folder / "out", model=small_model, tileSize=146)
    ended = finish(start(words, first))
    assert ended.code == 1
    assert len(stored(folder)) == 1, ended.log
    return folder


@pytest.mark.parametrize("change", CHANGES)
def test_what_another_run_left_is_refused_or_discarded_with_a_word(
    tmp_path: Path, begun: Path, small_model: Path, change: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(begun, folder)
    alter, said = CHANGES[change]
    options = {"tileSize": 146} | alter(folder, small_model)
    before = {name: (folder / "out" / name).read_bytes() for name in files_in(folder / "out")}
    words = arguments(folder / "in", folder / "out", **options)
    ended = call([*words, "--resume", "true"])
    assert ended.code == 1
    assert said in ended.errors[0]
    assert "--resume auto" in ended.errors[0]
    assert {n: (folder / "out" / n).read_bytes() for n in files_in(folder / "out")} == before
    ended = call(words)
    assert ended.code == 0
    assert f"{NAME}: what an earlier run left is discarded: {said}" in ended.log
    alone = arguments(folder / "in", folder / "alone", **options)
    assert call(alone).code == 0
    assert (folder / "out" / NAME).read_bytes() == (folder / "alone" / NAME).read_bytes()


def test_where_nothing_differs_every_form_of_the_option_ends_with_the_same_bytes(
    tmp_path: Path, begun: Path, small_model: Path, passes: list[int]
) -> None:
    found = set()
    for words in (["--resume"], ["--resume", "true"], ["--resume=auto"], ["--resume", "false"]):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(begun, folder)
        passes[0] = 0
        options = {"model": small_model, "tileSize": 146}
        ended = call([*arguments(folder / "in", folder / "out", **options), *words])
        assert ended.code == 0
        assert ("goes on from" in ended.log) == ("false" not in words)
        assert passes[0] == certificate(folder)["plan"]["zones_run"]
        assert "discarded" not in ended.log
        found.add((folder / "out" / NAME).read_bytes())
    assert len(found) == 1


def test_an_image_goes_on_with_another_number_of_threads_where_it_changes_no_bit(
    tmp_path: Path, small_model: Path, passes: list[int]
) -> None:
    """In bfloat16, whose sums have one order."""
    write_image(tmp_path / "in" / NAME, noise_image(SHAPE))
    words = arguments(
        *(tmp_path / "in", tmp_path / "out"),
        model=small_model,
        tileSize=146,
        precision="bfloat16",
    )
    assert call(words, NUM_THREADS="1").code == 0
    whole = (tmp_path / "out" / NAME).read_bytes()
    shutil.rmtree(tmp_path / "out")
    zones = passes[0]
    passes[:] = [0, zones - 2]
    assert call(words, NUM_THREADS="1").code == 1
    passes[:] = [0, -1]
    ended = call(words, NUM_THREADS="2")
    assert ended.code == 0
    assert "1 and 2 threads give the same bits in windows of " in ended.log
    assert "goes on from" in ended.log
    assert passes[0] < zones
    assert (tmp_path / "out" / NAME).read_bytes() == whole
    assert certificate(tmp_path)["identity"]["the number of threads (NUM_THREADS)"] == "1"


def test_a_second_process_on_the_same_output_is_refused(
    begun: Path, tmp_path: Path, small_model: Path
) -> None:
    shutil.copytree(begun, tmp_path / "copy")
    out_dir = tmp_path / "copy" / "out"
    before = journal_of(tmp_path / "copy").read_bytes()
    identity = json.loads(before.splitlines()[0][9:])["identity"]
    words = arguments(tmp_path / "copy" / "in", out_dir, model=small_model, tileSize=146)
    with Journal(out_dir / NAME, identity, "true"):
        ended = call(words)
        assert ended.code == 1
        assert "another process is writing this image" in ended.errors[0]
        assert GOES_ON not in ended.errors[0]
        assert journal_of(tmp_path / "copy").read_bytes() == before
    assert call(words).code == 0


# Finished images


@pytest.fixture
def done(tmp_path: Path, small_model: Path) -> Path:
    """A folder with an image and its result."""
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / NAME, noise_image((90, 80)), ome=True)
    assert run(tmp_path, small_model).code == 0
    return tmp_path


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return time and content of every file in `folder`."""
    paths = {name: folder / name for name in files_in(folder)}
    return {name: (path.stat().st_mtime_ns, path.read_bytes()) for name, path in paths.items()}


def test_a_finished_image_is_not_touched_again(
    done: Path, small_model: Path, passes: list[int]
) -> None:
    names = results_in(done / "out")
    before = [
        ((done / "out" / n).stat().st_mtime_ns, (done / "out" / n).read_bytes()) for n in names
    ]
    for options in ({}, {"resume": "true"}, {"verify": 2}):
        ended = run(done, small_model, **options)
        assert ended.code == 0
        assert f"{NAME}: already done" in ended.log
        assert "1 of 1 images done" in ended.log
    assert passes[0] == 0
    after = [
        ((done / "out" / n).stat().st_mtime_ns, (done / "out" / n).read_bytes()) for n in names
    ]
    assert (results_in(done / "out"), after) == (names, before)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("image", "the image differs"),
        ("model", "the model differs"),
        ("output", "--outputType was labels, and is logits"),
        ("file", "the file is not the one that its certificate speaks of"),
        ("cut", "the file is not the one that its certificate speaks of"),
        ("certificate", "is not as a run has written it"),
        ("old certificate", "is not as a run has written it"),
        ("no certificate", ""),
        ("resume", ""),
    ],
)
def test_an_image_whose_certificate_does_not_match_is_made_again(
    done: Path, small_model: Path, passes: list[int], change: str, said: str
) -> None:
    output, path = done / "out" / NAME, done / "out" / CERTIFICATE
    before = output.read_bytes()
    options: dict[str, object] = {"model": small_model}
    match change:
        case "image" | "model" | "output":
            options = CHANGES[change][0](done, small_model)
        case "file":
            flip(output, -5)
        case "cut":
            output.write_bytes(before[:-1])
        case "certificate":
            path.write_bytes(path.read_bytes()[:-9])
        case "old certificate":
            path.write_text('{"output": "image.ome.tif"}')
        case "no certificate":
            path.unlink()
        case "resume":
            options["resume"] = "false"
    ended = call(arguments(done / "in", done / "out", **options))
    assert ended.code == 0
    assert passes[0] == 1
    assert said in ended.log
    assert ("is made again" in ended.log) == bool(said)
    if change not in ("image", "model", "output"):
        assert output.read_bytes() == before


# Signals and full disks


AT_A_LONG_PASS = """
import hashlib
from pathlib import Path
import exactile.stopping
from exactile.forward import ForwardPass
exactile.stopping.GRACE_SECONDS = 0.5
first, calls = ForwardPass.start, []
def start(self, *rest):
    calls.append(1)
    if len(calls) == 3:
        Path({mark!r}).touch()
        # Native and long, with the lock of the interpreter released: like a pass of a large window.
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
    return first(self, *rest)
ForwardPass.start = start
"""


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 100
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_in_a_long_pass_ends_the_run_within_seconds(
    folder: Path, small_model: Path, number: int, code: int, word: str
) -> None:
    words = arguments(folder / "in", folder / "out", model=small_model, tileSize=ONE)
    # A shell may have started the tests with SIGINT ignored, which is inherited.
    first = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    mark = folder / "in the pass"
    process = start(words, first + AT_A_LONG_PASS.format(mark=str(mark)))
    wait_for(mark, process)
    sent = time.monotonic()
    process.send_signal(number)
    ended = finish(process)
    assert time.monotonic() - sent < 10
    assert ended.code == code
    assert ended.errors == [f"{word}; nothing unfinished was left under a final name; {GOES_ON}"]
    assert not (folder / "out" / NAME).exists()


def test_a_disk_that_is_full_is_gone_on_with_when_there_is_room(
    folder: Path, small_model: Path, clean: Callable
) -> None:
    """As a limit on the size of files: it meets the first page's spool after some tiles."""
    options = {"tileSize": ONE, "outputType": "probabilities"}
    words = arguments(folder / "in", folder / "out", model=small_model, **options)
    first = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))"
    ended = finish(start(words, first))
    assert ended.code == 1
    assert f"{folder / 'out' / NAME} cannot be written: File too large" in ended.errors[0]
    assert GOES_ON in ended.errors[0]
    assert "Traceback" not in ended.log
    assert all(name.startswith(".exactile") for name in files_in(folder / "out"))
    assert call(words).code == 0
    assert (folder / "out" / NAME).read_bytes() == clean(**options)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_small_disk_that_fills_up_is_gone_on_with_when_there_is_room(
    folder: Path, small_disk: Path, small_model: Path, clean: Callable
) -> None:
    options = {"tileSize": ONE, "outputType": "probabilities"}
    size = len(clean(**options))
    filler = small_disk / "filler"
    room = shutil.disk_usage(small_disk).free
    words = arguments(folder / "in", small_disk / "out", model=small_model, **options)
    # Full among the tiles; full while the file is put together from all of them; then enough.
    for left in (size // 2, size + size // 2):
        filler.write_bytes(bytes(room - left))
        ended = call(words)
        assert ended.code == 1
        assert "cannot be written: No space left on device" in ended.errors[0]
        assert GOES_ON in ended.errors[0]
        assert all(name.startswith(".exactile") for name in files_in(small_disk / "out"))
        filler.unlink()
    assert call(words).code == 0
    assert (small_disk / "out" / NAME).read_bytes() == clean(**options)


FORKS = """
import json, os, sys
import exactile.cli, exactile.segment, exactile.report.summary
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        sys.argv = ["exactile", *json.loads(line)]
        try:
            exactile.cli.main()
        except SystemExit as end:
            os._exit(end.code or 0)
        os._exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Forks:
    """Runs the program in copies of a process that has loaded its libraries, which is short."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORKS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, words: list[str], journal: Path, kill_after: float | None = None) -> int:
        """Run the program, kill it some seconds after it writes to `journal`, return its code."""
        before = self._state(journal)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        while Path(f"/proc/{pid}").exists() and self._state(journal) == before:
            time.sleep(0.002)
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return int(self._process.stdout.readline())

    @staticmethod
    def _state(journal: Path) -> int:
        return journal.stat().st_mtime_ns if journal.exists() else 0

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def forks() -> Iterator[Forks]:
    made = Forks()
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("output", ["labels", "probabilities"])
@pytest.mark.parametrize("tile", [SEVERAL_ZONES_PER_TILE, SEVERAL_TILES_PER_ZONE])
def test_runs_killed_at_random_moments_end_with_the_bytes_of_an_uninterrupted_one(
    tmp_path: Path, small_model: Path, forks: Forks, output: str, tile: int
) -> None:
    """Eight kills at least for each kind of run; one that was gone on with may be killed again.

    The moments are by chance, and so is whether a zone was finished: kills go on until one was.
    """
    write_image(tmp_path / "in" / NAME, noise_image(TALL))
    options = {"model": small_model, "tileSize": tile, "outputType": output}
    clean = tmp_path / "clean"
    assert forks.run(arguments(tmp_path / "in", clean, **options), clean) == 0
    expected = (clean / NAME).read_bytes()
    made = json.loads((clean / CERTIFICATE).read_text())
    longest = 1.3 * sum(made["seconds"].values())
    rng = random.Random(f"{output} {tile}")
    killed = images = went_on = 0
    while killed < 8 or not went_on:
        assert images < 40, "no run went on with finished zones"
        out_dir = tmp_path / f"out_{images}"
        images += 1
        journal = work_folder(out_dir / NAME) / "journal"
        words = arguments(tmp_path / "in", out_dir, **options)
        held: set[tuple[int, int]] = set()
        for moment in (rng.uniform(0, longest) for _ in range(rng.randint(1, 3))):
            killed += forks.run(words, journal, moment) != 0
            if journal.exists():
                now = {(page, number) for page, number, *_ in tiles_in(journal)}
                assert now >= held
                held = now
        assert forks.run(words, journal) == 0
        assert (out_dir / NAME).read_bytes() == expected
        assert results_in(out_dir) == [CERTIFICATE, NAME]
        plan = json.loads((out_dir / CERTIFICATE).read_text())["plan"]
        assert plan["zones_run"] + plan["zones_resumed"] == made["plan"]["zones_run"]
        went_on += plan["zones_resumed"] > 0
        if (tile, output) == (SEVERAL_ZONES_PER_TILE, "labels"):
            # Each tile holds a zone at least; those of a stored tile were not made again.
            assert plan["zones_resumed"] >= len(held)
