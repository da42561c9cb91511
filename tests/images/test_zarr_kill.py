"""A run that is killed while an OME-Zarr is finished: whatever the step, what is left is whole."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exactile.errors import OutputError
from exactile.geometry import Box
from exactile.images import OutputImage, Plane, folder_exchange
from exactile.images.digest import FileDigest
from exactile.images.journal import Journal
from exactile.images.zarr_layout import NgffVersion
from exactile.images.zarr_sink import ZarrSink

EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "os.scandir")
"""Steps that Python tells of before it takes them."""


def image(value: int, version: NgffVersion, height: int = 1030) -> tuple[OutputImage, np.ndarray]:
    described = OutputImage((height, 20), np.dtype(np.uint8), zarr_version=version)
    return described, np.full((1, *described.shape), value, np.uint8)


def write(path: Path, value: int, version: NgffVersion, height: int = 1030) -> FileDigest:
    described, pixels = image(value, version, height)
    with ZarrSink(path, described) as sink:
        sink.write(Plane(), Box.of_shape(described.shape), pixels)
    return FileDigest.of(path)


def finish(path: Path, version: NgffVersion, before_closing: Callable[[], None]) -> bool:
    """Write or go on with an image; return whether an earlier run had stored all of it."""
    described, pixels = image(7, version)
    with (
        Journal(path, {"of": "the new one"}) as journal,
        ZarrSink(path, described, 1, journal) as sink,
    ):
        stored = sink.has(Plane(), Box.of_shape(described.shape))
        if not stored:
            sink.write(Plane(), Box.of_shape(described.shape), pixels)
        before_closing()
        sink.close()
    return stored


def killed_at(step: int, path: Path, version: NgffVersion) -> bool:
    """Finish an image in a process that is killed before its `step`; return whether it was."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    steps = [0]

    def kill(event: str, _: object) -> None:
        if event in EVENTS:
            steps[0] += 1
            if steps[0] > step:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        finish(path, version, lambda: sys.addaudithook(kill))
    finally:
        os._exit(0)


def without_exchange(*_: Path) -> bool:
    return False


def check_kills(folder: Path, version: NgffVersion, exchanged: bool, stride: int) -> None:
    """Kill a run at every `stride`-th step of finishing an image, and go on with it."""
    old = write(folder / "old.ome.zarr", 3, version, height=2100)
    new = write(folder / "new.ome.zarr", 7, version)
    path = folder / "out" / "a.ome.zarr"
    step, killed, found, stored = 0, True, set(), set()
    while killed:
        shutil.rmtree(path.parent, ignore_errors=True)
        shutil.copytree(folder / "old.ome.zarr", path)
        killed = killed_at(step, path, version)
        step += stride
        if not path.exists():
            assert not exchanged
            with Journal(path, {"of": "something else"}, "false"):
                assert FileDigest.of(path) == old
            continue
        there = FileDigest.of(path)
        assert there in (old, new)
        found.add(there == new)
        if killed:
            stored.add(finish(path, version, lambda: None))
        assert FileDigest.of(path) == new
        assert [each.name for each in path.parent.iterdir()] == ["a.ome.zarr"]
    assert True in stored
    assert found == {True, False}


@pytest.mark.parametrize("exchanged", [True, False])
@pytest.mark.parametrize(
    ("version", "stride"),
    [("0.4", 29), ("0.5", 29), pytest.param("0.4", 1, marks=pytest.mark.slow)],
)
def test_a_kill_at_any_step_leaves_the_old_image_or_the_new_one(
    tmp_path, monkeypatch, version, stride, exchanged
):
    """Where names cannot be exchanged, the next run gives the old one its name back."""
    if not exchanged:
        monkeypatch.setattr(folder_exchange, "exchange", without_exchange)
    check_kills(tmp_path, version, exchanged, stride)


def test_an_image_that_is_not_there_after_a_kill_is_gone_on_with(tmp_path, monkeypatch):
    """Where names cannot be exchanged, the old image has its name back before that."""
    path = tmp_path / "a.ome.zarr"
    old = write(path, 3, "0.4")
    new = write(tmp_path / "new.ome.zarr", 7, "0.4")
    monkeypatch.setattr(folder_exchange, "exchange", without_exchange)
    rename = Path.rename

    def stop_at_whole(self: Path, target: Path) -> Path:
        if self.name in ("whole", "replaced"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stop_at_whole)
        with pytest.raises(OutputError, match="Input/output error"):
            finish(path, "0.4", lambda: None)
    assert not path.exists()
    assert finish(path, "0.4", lambda: FileDigest.of(path).__eq__(old) or pytest.fail("not there"))
    assert FileDigest.of(path) == new


def test_two_folders_exchange_their_names_where_the_file_system_can(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not folder_exchange.exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot")
    assert (tmp_path / "a" / "b").exists()
    with pytest.raises(OSError, match="No such file"):
        folder_exchange.exchange(tmp_path / "a", tmp_path / "c")
