"""The folder of temporary files of one image: outDir/.exactile/<name>.partial."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from exactile.errors import OutputError
from exactile.images.links import refuse_links

WORK_FOLDER = ".exactile"
"""The sub-folder of the output folder that holds temporary files while images are written."""


LONGEST_NAME = 255
"""Bytes of a name, on all file systems in use."""


def work_folder(output: Path) -> Path:
    """Return the folder of the temporary files of the image that will be `output`."""
    return output.parent / WORK_FOLDER / temporary_name(output.name)


def temporary_name(name: str) -> str:
    """Return the name that what will be called `name` has until then.

    That is `name`.partial, unless it is longer than file systems can have it.
    """
    partial = f"{name}.partial"
    if len(os.fsencode(partial)) <= LONGEST_NAME:
        return partial
    return f"{sha256(os.fsencode(name)).hexdigest()}.partial"


def make_empty(folder: Path) -> None:
    """Make `folder`, without what a killed run left in it. Raises OSError.

    Raises OutputError where it, or the one that it lies in, is a link.
    """
    refuse_links(folder, folder.parent.parent)
    for attempt in range(3):
        try:
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            return
        except FileNotFoundError:
            # Another process that finished its image removed the empty parent in between.
            if attempt == 2:
                raise


def remove(folder: Path) -> None:
    """Remove `folder`, and the one that it lies in where no other image is being written."""
    shutil.rmtree(folder, ignore_errors=True)
    remove_empty(folder)


def remove_empty(folder: Path) -> None:
    """Remove `folder`, and the one that it lies in, each if it is empty."""
    with suppress(OSError):
        folder.rmdir()
    with suppress(OSError):
        folder.parent.rmdir()


@contextmanager
def named_errors(output: Path) -> Iterator[None]:
    """Turn what the disk refuses into an OutputError that names `output` and the cause."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or str(error)
        raise OutputError(
            f"{output} cannot be written: {cause}; check the free space, the limits and "
            f"the permissions of {output.parent}"
        ) from error


def sync(path: Path) -> None:
    """See that a file, or a folder with all that is in it, is on the disk. Raises OSError."""
    if path.is_dir():
        for inner in path.iterdir():
            sync(inner)
        sync_folder(path)
    else:
        _sync(path)


def sync_folder(path: Path) -> None:
    """See that the names in a folder are on the disk, where the file system syncs folders."""
    with suppress(OSError):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
