"""What results ask of the file system that they go to, tried before anything is computed.

Files are written at any place, cut, synced to the disk, and renamed over others; folders are
renamed. Some network file systems and buckets behind FUSE cannot do one of it, which would else be
found when the first image is done. Syncing folders, locks and hard links are not asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex

from exactile.errors import OutputError
from exactile.images.work_folder import WORK_FOLDER, make_empty, remove

_CONTENT = b"exactile"


def probe(out_dir: Path) -> None:
    """Do in `out_dir` what will be done there with results, and leave nothing.

    Raises OutputError where that cannot be.
    """
    folder = out_dir / WORK_FOLDER / f"probe-{os.getpid()}-{token_hex(4)}"
    try:
        for what, step in _steps(folder):
            try:
                step()
            except OSError as error:
                raise OutputError(
                    f"--outDir {out_dir}: {what} is not possible there "
                    f"({error.strerror or error}), which results need: choose a folder on another "
                    "file system, or make room and permit writing"
                ) from error
    finally:
        remove(folder)


def _steps(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield in words what is tried, and what tries it."""
    first, second = folder / "first", folder / "second"
    inner, renamed = folder / "folder", folder / "renamed"
    yield "making a folder", lambda: make_empty(folder)
    yield "writing a file", lambda: _write(first)
    yield "writing a file", lambda: second.write_bytes(b"")
    yield "renaming a file over another", lambda: first.replace(second)
    yield "reading what was written", lambda: _read(second)
    yield "making a folder", inner.mkdir
    yield "writing a file", lambda: _write(inner / "file")
    yield "renaming a folder", lambda: inner.rename(renamed)
    yield "reading what was written", lambda: _read(renamed / "file")


def _write(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        os.pwrite(descriptor, _CONTENT, len(_CONTENT))
        os.pwrite(descriptor, _CONTENT * 2, 0)
        os.ftruncate(descriptor, len(_CONTENT))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> None:
    if path.read_bytes() != _CONTENT:
        raise OSError("what was read is not what was written")
