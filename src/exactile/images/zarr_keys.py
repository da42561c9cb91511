"""The files of chunks that there are, compared with those that an array's metadata speak of.

    1/0/2   1.0.2        Zarr 2
    c/1/0/2   c.1.0.2    Zarr 3

Of a chunk whose file is not there, Zarr takes the fill value. So where files have other names than
the metadata say, an image reads as nothing but zeros, and where the metadata are those of a smaller
image, most of it is passed by: neither tells by itself. Files lie where the metadata say, all of
them inside the array, or that is said.
"""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import DirEntry, scandir
from pathlib import Path

_NUMBERS = re.compile(r"(?:0|[1-9][0-9]{0,17})(?:[./](?:0|[1-9][0-9]{0,17}))*", re.ASCII)
_SEPARATOR = re.compile("[./]")


@dataclass(frozen=True, slots=True)
class Naming:
    """How the files of chunks are named."""

    prefix: str
    """What stands before the numbers: nothing, `c/` or `c.`."""
    separator: str
    """What stands between them: `/`, `.`, or both where they are mixed."""

    def __str__(self) -> str:
        return self.prefix + self.separator.join("012")


@dataclass(frozen=True, slots=True)
class FoundChunks:
    """What there is of an array."""

    count: Mapping[Naming, int]
    """Number of files that lie inside the array, by how they are named."""
    stray: str
    """A file of no place in the array; empty where there is none."""
    odd: str
    """What has the name of a chunk and is no file; empty where there is none."""


def find_chunks(folder: Path, said: Naming, grid: tuple[int, ...]) -> FoundChunks:
    """Look at the names of all files in an array's `folder`; `grid` counts chunks along its axes.

    What could be named in several ways is taken as `said`. Raises OSError where a folder cannot be
    listed.
    """
    count: Counter[Naming] = Counter()
    stray = odd = ""
    for key, entry in _walk(folder, "", len(grid) + 1):
        prefix = key[:2] if key.startswith(("c/", "c.")) else ""
        numbers = key[len(prefix) :]
        if not _NUMBERS.fullmatch(numbers):
            continue
        separators = "".join(sorted(set(numbers) & set("./")))
        place = tuple(map(int, _SEPARATOR.split(numbers)))
        if not _is_file(entry):
            odd = odd or key
        elif len(place) != len(grid) or any(p >= s for p, s in zip(place, grid, strict=True)):
            stray = stray or key
        else:
            count[Naming(prefix, separators or said.separator)] += 1
    return FoundChunks(count, stray, odd)


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, DirEntry[str]]]:
    """Yield the key of each entry that is no folder on the way to one; folders of numbers alone."""
    with scandir(folder) as entries:
        for entry in entries:
            key = prefix + entry.name
            if not (entry.name[0].isdecimal() or entry.name[0] == "c"):
                continue
            if depth and (entry.name == "c" or entry.name.isdecimal()) and entry.is_dir():
                yield from _walk(folder / entry.name, f"{key}/", depth - 1)
            else:
                yield key, entry


def _is_file(entry: DirEntry[str]) -> bool:
    """Return whether an entry is a file, or a link to one."""
    if not entry.is_symlink():
        return entry.is_file()
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return False
