"""A line of a journal: a checksum, and a text, which is JSON.

The checksum is the CRC-32 of all texts until then, this one included.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from zlib import crc32

from exactile.stored_json import MalformedError, parse_json

MOST_LINE = 2**24
"""Bytes of a line; what is longer is damage. A note has the numbers of a plane or a volume."""

LARGEST = 2**62
"""No number in a line is larger: a place in a file, or a number of a page or a tile."""


def make_line(record: Mapping[str, Any], before: int) -> tuple[bytes, int]:
    """Return the line that says `record`, and the checksum until then; `before` is that before."""
    text = json.dumps(record, separators=(",", ":")).encode()
    checksum = crc32(text, before)
    return b"%08x %s\n" % (checksum, text), checksum


def parse_line(line: bytes, before: int) -> tuple[dict[str, Any], int] | None:
    """Return what a line says, and the checksum until then; None where it is cut or damaged."""
    said, _, text = line.removesuffix(b"\n").partition(b" ")
    checksum = crc32(text, before)
    if not line.endswith(b"\n") or said != b"%08x" % checksum:
        return None
    try:
        record = parse_json(text)
    except MalformedError:
        return None
    return (record, checksum) if isinstance(record, dict) else None


def are_counts(*values: object) -> bool:
    """Return whether `values` are whole numbers that a line can have."""
    return all(type(value) is int and 0 <= value < LARGEST for value in values)
