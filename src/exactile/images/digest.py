"""What a file holds, in few bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class FileDigest:
    """Size and digest of a file."""

    bytes: int
    sha256: str
    """Of its content, in hexadecimal digits."""

    @classmethod
    def of(cls, path: Path) -> FileDigest:
        """Return the digest of the file `path`, read in blocks. Raises OSError."""
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
            return cls(file.tell(), digest.hexdigest())
