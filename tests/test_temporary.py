"""A process that has no place for temporary files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from conftest import noise_image, write_image
from program import arguments, finish, results_in, start

from exactile.temporary import do_without_temporary_files

NO_PLACE = """
import os, tempfile
os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)
tempfile._candidate_tempdir_list = lambda: []
"""


@pytest.mark.parametrize("engine", ["eager", "openvino"])
def test_a_run_needs_no_place_for_temporary_files(
    engine: str, small_model: Path, tmp_path: Path
) -> None:
    write_image(tmp_path / "in" / "a.ome.tif", noise_image((90, 70)))
    words = arguments(tmp_path / "in", tmp_path / "out", model=small_model, engine=engine)
    ended = finish(start(words, NO_PLACE))
    assert ended.code == 0, ended.log
    assert results_in(tmp_path / "out") == ["a.ome.tif", "certificates/a.ome.tif.json"]


def test_nothing_changes_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    do_without_temporary_files()
    assert tempfile.gettempdir() == str(tmp_path)
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
