"""Links below the output folder are never followed to write, to empty, or to remove.

The output folder itself may be a link: that is the user's choice. What lies below it may have been
put there by others, or be left from another time. Folders that exactile makes must be folders;
files that it goes on with must have no other name; those that it writes anew replace whatever has
their name, without opening it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from exactile.errors import OutputError


def refuse_links(path: Path, base: Path) -> None:
    """See that neither `path` nor a folder between it and `base` is a link.

    Raises:
        OutputError: if one is.
    """
    place = base
    for part in path.relative_to(base).parts:
        place = place / part
        if place.is_symlink():
            raise _refused(place, "a link")


def refuse_links_in(folder: Path) -> None:
    """See that `folder`, which need not be there, holds no link, nor a file with a second name.

    Raises:
        OutputError: if it does.
    """
    for entry in _entries(folder):
        if entry.is_symlink():
            raise _refused(Path(entry.path), "a link")
        if entry.is_dir(follow_symlinks=False):
            refuse_links_in(Path(entry.path))
        elif _names(entry) > 1:
            raise _refused(Path(entry.path), "a file with a second name (a hard link)")


def make_own_folder(folder: Path, base: Path) -> None:
    """Make `folder`, and what lies between it and `base`, which is there.

    Raises:
        OutputError: if one of them is a link.
        OSError: if the disk refuses.
    """
    refuse_links(folder, base)
    folder.mkdir(parents=True, exist_ok=True)


def is_plain_name(name: str) -> bool:
    """Return whether `name` is that of something in a folder, and no way out of it.

    >>> is_plain_name("a.ome.tif"), is_plain_name(".."), is_plain_name("b/a.ome.tif")
    (True, False, False)
    """
    return Path(name).name == name and name not in ("", ".", "..") and "\0" not in name


def fresh(path: Path) -> Path:
    """Return `path`, without the file, or the link, that had this name. Raises OSError."""
    path.unlink(missing_ok=True)
    return path


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what is in a folder; another process may remove it meanwhile."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        yield from entries


def _names(entry: os.DirEntry[str]) -> int:
    with suppress(FileNotFoundError):
        return entry.stat(follow_symlinks=False).st_nlink
    return 0


def _refused(place: Path, kind: str) -> OutputError:
    return OutputError(
        f"{place}: is {kind}, and nothing is written through it; remove it, or choose another "
        "--outDir"
    )
