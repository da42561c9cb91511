"""A sample of spoilt files of every kind: a message, or a result; `python tests/fuzz/run.py` has
thousands of them, with limits of time and memory."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from fuzz.kinds import KINDS, failures

SAMPLE = {"journal": 40, "statistics": 50, "certificate": 50, "parts": 80}


@pytest.mark.parametrize("name", KINDS)
def test_spoilt_files_give_a_message_or_a_result_and_touch_nothing_else(
    tmp_path: Path, name: str
) -> None:
    kind = KINDS[name](tmp_path / "valid")
    found = [
        (seed, "".join(traceback.format_exception(error)[-3:]))
        for seed, error in failures(kind, tmp_path / "work", range(SAMPLE.get(name, 200)))
    ]
    assert found == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["valid", "work"]
