"""What is read back from a disk: bounded, of the very kinds, and as it was written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from exactile.stored_json import (
    MOST_BYTES,
    MalformedError,
    checked,
    parse_json,
    read_json,
    read_sealed,
    sealed,
    unsealed,
)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'{"a":',
        b"1 2",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"1" * 5000,
        b"1" * 101,
        b"[" * 100_000,
        b"[" * 250 + b"]" * 250,
        b'"\\ud800"',
        b'"\xff"',
        '{"a": 1}'.encode("utf-16"),
    ],
    ids=lambda text: repr(text[:12]),
)
def test_text_that_is_no_bounded_json_in_utf_8_is_malformed(text: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_json(text)


@pytest.mark.parametrize("value", [True, "1", 1.0, None, [1]])
def test_a_value_of_another_kind_is_not_made_to_fit(value: Any) -> None:
    with pytest.raises(MalformedError, match="the whole: "):
        checked(TypeAdapter(int), value)


def test_what_was_changed_since_it_was_sealed_is_malformed(tmp_path: Path) -> None:
    content = {"numbers": [1, 0.1, 2**90], "name": "ä", "nothing": None}
    path = tmp_path / "file.json"
    path.write_text(json.dumps(sealed(content)))
    assert read_sealed(path) == content
    path.write_text(path.read_text().replace("0.1", "0.2"))
    with pytest.raises(MalformedError, match="digest"):
        read_sealed(path)
    for other in ([], {}, content):
        with pytest.raises(MalformedError):
            unsealed(other)


def test_what_is_sealed_twice_has_one_seal() -> None:
    assert sealed(sealed({"a": 1})) == sealed({"a": 1})


def test_pipes_devices_and_files_that_are_too_large_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    for name in ("pipe", "zeros", "large"):
        with pytest.raises(MalformedError):
            read_json(tmp_path / name)
    with pytest.raises(OSError, match="directory"):
        read_json(tmp_path)
