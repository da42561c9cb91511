"""What a file, or a folder that is an image, holds, in few bytes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class FileDigest:
    """Size and digest of a file or folder."""

    bytes: int
    """Of a folder, the sizes of all files in it."""
    sha256: str
    """In hexadecimal digits: of a file, of its content; of a folder, of a list of its files.

    The list is what `sha256sum` prints for the paths from the folder, in the order of their bytes:
    `find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum`. Folders
    without files do not count, nor do times, owners and modes.
    """

    @classmethod
    def of(cls, path: Path) -> FileDigest:
        """Return the digest of the file or folder `path`, read in blocks. Raises OSError."""
        return _of_folder(path) if path.is_dir() else _of_file(path)

    @classmethod
    def of_files(cls, folder: Path, paths: Iterable[str]) -> FileDigest:
        """Return the digest of a folder of no files but `paths` of `folder`. Raises OSError."""
        return _of_files(folder, sorted(paths, key=os.fsencode))

    def is_of(self, path: Path) -> bool:
        """Return whether `path` holds just this. Raises OSError."""
        if not path.is_dir() and path.stat().st_size != self.bytes:
            return False
        return FileDigest.of(path) == self


def _of_file(path: Path) -> FileDigest:
    if not stat.S_ISREG(path.stat().st_mode):
        # A pipe never answers, and a device never ends.
        raise OSError(errno.EINVAL, "is neither a file nor a folder", str(path))
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
        return FileDigest(file.tell(), digest.hexdigest())


def _of_folder(folder: Path) -> FileDigest:
    return _of_files(folder, _files(folder, "", ()))


def _of_files(folder: Path, paths: Iterable[str]) -> FileDigest:
    digest, total = hashlib.sha256(), 0
    for path in paths:
        found = _of_file(folder / path)
        digest.update(found.sha256.encode() + b"  " + os.fsencode(path) + b"\n")
        total += found.bytes
    return FileDigest(total, digest.hexdigest())


def _files(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yield the paths of all files under `folder`, in the order of their bytes, after `prefix`.

    `above` are the folders that it lies in, which a link may lead back to. Raises OSError then.
    """
    facts = folder.stat()
    here = (facts.st_dev, facts.st_ino)
    if here in above:
        raise OSError(errno.ELOOP, "is a link to a folder that it lies in", str(folder))
    with os.scandir(folder) as entries:
        # The order of whole paths: a folder's name counts with the slash that follows it.
        found = sorted((os.fsencode(e.name + "/" * e.is_dir()), e.is_dir()) for e in entries)
    for name, is_folder in found:
        path = prefix + os.fsdecode(name)
        if is_folder:
            yield from _files(folder / os.fsdecode(name), path, (*above, here))
        else:
            yield path
