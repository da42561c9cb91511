"""`exactile partition` under torchrun: one message, no result under a final name, and an end."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

import pytest
from conftest import noise_image, write_image
from launching import DYING, finish, partition, torchrun
from program import arguments, call, files_in


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    write_image(folder / "slide.ome.tif", noise_image((150, 203)))
    return folder


@pytest.mark.slow
def test_two_ranks_write_the_bytes_of_segment(
    slides: Path, small_model: Path, tmp_path: Path
) -> None:
    ended = partition(2, slides, tmp_path / "out", model=small_model)
    assert ended.code == 0, ended.log
    assert ended.log.count("INFO slide.ome.tif: ") == 2, "the first rank alone speaks"
    assert call(arguments(slides, tmp_path / "one", model=small_model)).code == 0
    one, out = tmp_path / "one" / "slide.ome.tif", tmp_path / "out" / "slide.ome.tif"
    assert out.read_bytes() == one.read_bytes()


def test_a_single_process_needs_no_torchrun(
    slides: Path, small_model: Path, tmp_path: Path
) -> None:
    # In a process of its own: it leaves no process group behind.
    words = ("partition", "--inpDir", slides, "--outDir", tmp_path, "--model", small_model)
    ended = finish(torchrun(0, *words))
    assert ended.code == 0, ended.log
    assert (tmp_path / "slide.ome.tif").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 2])
def test_a_killed_rank_is_named_and_leaves_no_result(
    slides: Path, small_model: Path, tmp_path: Path, victim: int
) -> None:
    begun = time.monotonic()
    ended = partition(3, slides, tmp_path, DYING.format(victim=victim), model=small_model)
    assert ended.code != 0
    assert time.monotonic() - begun < 60
    named = [line for line in ended.errors if f"rank {victim} lost" in line]
    assert len(named) == 2, ended.log
    assert [name for name in files_in(tmp_path) if not name.startswith(".exactile/")] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mesh": "3"}, "--mesh 3 has 3 ranks, but 2 processes were started"),
        ({"axes": "Q"}, "--axes 'Q' are no axes of an image"),
        ({"filePattern": "none"}, "matches none of the 1 files"),
        ({"timeout": "soon"}, "--timeout 'soon' is not a number of seconds"),
    ],
)
def test_what_is_wrong_is_said_once(
    slides: Path, small_model: Path, tmp_path: Path, options: dict[str, str], message: str
) -> None:
    ended = partition(2, slides, tmp_path / "out", model=small_model, **options)
    assert ended.code != 0
    assert [line for line in ended.errors if message in line] == ended.errors[:1], ended.log
    assert not files_in(tmp_path / "out")


@pytest.mark.slow
def test_two_nodes_meet_at_one_address(slides: Path, small_model: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = ("--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}")
    words = ("partition", "--inpDir", slides, "--outDir", tmp_path, "--model", small_model)
    nodes = [torchrun(1, *words, options=(*meeting, "--rdzv-id=test")) for _ in range(2)]
    ended = [finish(node) for node in nodes]
    assert [each.code for each in ended] == [0, 0], ended
    assert (tmp_path / "slide.ome.tif").is_file()
    assert sum(bool(re.search("1 of 1 images done", each.log)) for each in ended) == 1
