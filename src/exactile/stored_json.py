"""JSON that lies on a disk, where anything may have happened to it: read in one strict way.

Whatever the program once wrote and reads again (journals, certificates, records of shards,
statistics), and every card, comes through here:

- A file is a regular one, not a pipe or a device, and has at most MOST_BYTES.
- Its text is UTF-8, is nested at most 200 deep, and names no lone half of a character.
- A number is finite, and an integer has at most MOST_DIGITS digits, more than any sum of pixels.
- A value is of the very kinds that its reader declares: `true` is not 1, nor is "1" or 1.0.
- What is sealed carries the digest of all else that it says: a digit that a disk, a tool or a hand
  has changed is as good as another, and only the digest tells.

All that breaks a rule is a MalformedError, a ValueError whose text says what is wrong and where.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

T = TypeVar("T")

MOST_BYTES = 2**26
"""Of a file: the certificate of a series of 100,000 planes has a third of it."""

MOST_DIGITS = 100

SEAL = "sha256"
"""The key of the digest in what is sealed."""


class MalformedError(ValueError):
    """What was read is not what the program writes there."""


def read_json(path: Path) -> Any:
    """Return the value in the file `path`.

    Raises:
        OSError: if it cannot be read.
        MalformedError: if it is no file, too large, or breaks a rule of the module.
    """
    return parse_json(_read(path))


def parse_json(text: bytes) -> Any:
    """Return the value of `text`. Raises MalformedError."""
    try:
        value = from_json(text, allow_inf_nan=False)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"it is not JSON: {error}") from error
    for number in _numbers(value):
        if math.isinf(number) if isinstance(number, float) else _is_huge(number):
            raise MalformedError("a number is too large")
    return value


def checked(kind: TypeAdapter[T], value: Any) -> T:
    """Return a value that was parsed as one of the declared `kind`; nothing is converted.

    Raises MalformedError, naming the first place where it is not.
    """
    try:
        return kind.validate_json(to_json(value), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise MalformedError(f"{where}: {first['msg']}") from error


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return `content`, of kinds that JSON has, with its seal."""
    rest = {name: value for name, value in content.items() if name != SEAL}
    return rest | {SEAL: _digest(rest)}


def read_sealed(path: Path) -> dict[str, Any]:
    """Return what the file `path` says beside its seal, which is intact.

    Raises:
        OSError: if it cannot be read.
        MalformedError: if it was not written by `sealed`, or was changed since.
    """
    return unsealed(read_json(path))


def unsealed(value: Any) -> dict[str, Any]:
    """Return what was sealed. Raises MalformedError if it was not, or was changed since."""
    if not isinstance(value, dict):
        raise MalformedError("it is no record")
    content = {name: each for name, each in value.items() if name != SEAL}
    if value.get(SEAL) != _digest(content):
        raise MalformedError("its digest is missing, or not that of what it says")
    return content


def _read(path: Path) -> bytes:
    # A pipe would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise MalformedError("it is no file")
        if status.st_size > MOST_BYTES:
            raise MalformedError(f"it has {status.st_size} bytes, of {MOST_BYTES} at most")
        return file.read(MOST_BYTES)


def _numbers(value: Any) -> Iterator[float]:
    """Yield all numbers in `value`."""
    left = [value]
    while left:
        match left.pop():
            case dict() as record:
                left.extend(record.values())
            case list() as values:
                left.extend(values)
            case float() | int() as number:
                yield number


def _is_huge(number: int) -> bool:
    return not -(10**MOST_DIGITS) < number < 10**MOST_DIGITS


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
