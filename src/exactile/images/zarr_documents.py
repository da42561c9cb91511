"""The documents of a Zarr folder: JSON that others wrote, read by rules of our own.

What is wrong is said before any library acts on it. A document is a file (no pipe, no device, which
would never end), of a bounded size, UTF-8, one object, in which no name stands twice and nothing
lies deeper than MOST_NESTED: readers differ in which of two values they take, and in how deep they
get.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MOST_BYTES = 64 * 2**20
"""Documents of real images have some hundred kB: longer ones are something else."""

MOST_NESTED = 100
"""Real metadata is nested some ten deep."""


class DocumentError(ValueError):
    """A document that cannot be used; the text says why, with its name, without its folder."""


def read_document(path: Path) -> Mapping[str, Any] | None:
    """Return what a document says, or None where there is none of that name.

    Raises DocumentError.
    """
    try:
        data = _content(path)
    except OSError as error:
        raise DocumentError(f"{path.name} cannot be read ({error.strerror or error})") from error
    if data is None:
        return None
    try:
        content = json.loads(data.decode(), object_pairs_hook=_unique)
    except RecursionError as error:
        raise DocumentError(f"{path.name} is nested too deep") from error
    except ValueError as error:
        raise DocumentError(f"{path.name} is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise DocumentError(f"{path.name} is no JSON object, but {_shown(content)}")
    if _nested(content) > MOST_NESTED:
        raise DocumentError(f"{path.name} is nested deeper than {MOST_NESTED}")
    return content


def _content(path: Path) -> bytes | None:
    """Return the bytes of a file; None where there is nothing of that name."""
    try:
        found = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise DocumentError(f"{path.name} is a link to what is not there") from None
        return None
    if not stat.S_ISREG(found.st_mode):
        raise DocumentError(f"{path.name} is not a file")
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise DocumentError(f"{path.name} is larger than {MOST_BYTES // 2**20} MiB")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands in it twice")
    return content


def _nested(content: Any) -> int:
    """Return how deep the innermost value lies; without recursion, which has limits of its own."""
    depth, level = 0, [content]
    while level:
        depth += 1
        inner = (each for each in level if isinstance(each, dict | list))
        level = [v for each in inner for v in (each.values() if isinstance(each, dict) else each)]
    return depth


def _shown(content: Any) -> str:
    text = json.dumps(content)
    return text if len(text) < 40 else f"{text[:40]}..."
