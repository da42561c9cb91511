"""Where results cannot be written, and where exactile does not run, is found before the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import noise_image, write_image
from program import arguments, call

from exactile import segment
from exactile.errors import OutputError, PlatformError
from exactile.platforms import check_platform
from exactile.probe import probe


def test_a_folder_that_can_all_is_left_as_it_was(tmp_path):
    (tmp_path / "results.txt").touch()
    probe(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.txt"]


def cannot(*_: object) -> None:
    raise OSError(95, "Operation not supported")


BROKEN: dict[str, tuple[object, str]] = {
    "making a folder": (Path, "mkdir"),
    "writing a file": (os, "fsync"),
    "renaming a file over another": (Path, "replace"),
    "renaming a folder": (Path, "rename"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_a_file_system_cannot_is_named_and_nothing_is_left(tmp_path, monkeypatch, what):
    with monkeypatch.context() as patch:
        patch.setattr(*BROKEN[what], lambda *_, **__: cannot())  # type: ignore[call-overload]
        with pytest.raises(OutputError, match=f"{what} is not possible there .Operation not"):
            probe(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", [True, False])
def test_a_run_tries_the_folder_before_any_image_and_before_the_model_where_it_is_there(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    write_image(tmp_path / "in" / "a.ome.tif", noise_image((20, 30)))
    if there:
        (tmp_path / "out").mkdir()
    made: list[object] = []
    make_job: Callable[..., object] = segment.make_job
    monkeypatch.setattr(segment, "make_job", lambda s: made.append(s) or make_job(s))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", cannot)
        ended = call(arguments(tmp_path / "in", tmp_path / "out", model=small_model))
    assert ended.code == 1
    assert len(ended.errors) == 1
    assert "writing a file is not possible there (Operation not supported)" in ended.errors[0]
    assert len(made) == (0 if there else 1)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("platform", "name"), [("darwin", "macOS"), ("win32", "Windows")])
def test_other_systems_are_refused_in_one_line(monkeypatch, platform, name):
    with pytest.raises(PlatformError, match=f"runs on Linux, and this is {name}"):
        check_platform(platform)
    monkeypatch.setattr(sys, "platform", platform)
    ended = call(["--version"])
    assert ended.code == 1
    assert len(ended.errors) == 1
