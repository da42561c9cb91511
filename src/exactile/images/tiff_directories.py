"""The directories of a TIFF, as they are stored: looked at before anything is built on them.

Every page is described by a directory of tags, and a file is a chain of them. tifffile takes the
first page of a stack for all that follow, and a chain that runs in circles for a long one. Here
each directory is visited once, few bytes of it are read, and what they say of the way in which
pixels are stored is kept, so that pages which differ are never decoded alike. A chain of a hundred
thousand pages takes a second or two.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from exactile.errors import ImageError

MOST_PAGES = 2**20
"""More directories than any image has: what lists more is damaged, or made to take long."""

MOST_EMPTY = 100
"""Directories that describe no image; one or two are found in files of some microscopes."""

MOST_SAMPLES = 4096
"""Samples of a pixel; TIFF's own field ends at 65,535, and hyperspectral images at some hundred."""

MOST_TAGS = 4096
"""Tags of a directory, as tifffile has it."""

IMAGE_DESCRIPTION = 270

_STORAGE = {
    256: "width",
    257: "height",
    258: "bits of a sample",
    259: "compression",
    262: "photometric interpretation",
    266: "order of bits",
    277: "samples of a pixel",
    284: "planar configuration",
    317: "predictor",
    322: "width of tiles",
    323: "height of tiles",
    339: "sample format",
}
"""The tags that say how the pixels of a page are to be decoded."""

_DEFAULTS = dict.fromkeys((258, 259, 266, 277, 284, 317, 339), (1,))
"""What counts where a tag is left out, by TIFF's rules."""

_SUBFILE, _WIDTH, _SAMPLES = 254, 256, 277
_LOOKED_AT = (_SUBFILE, *_STORAGE)
_REDUCED_OR_MASK = 0b101
_FORMATS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}
_MOST_VALUES = 16
"""Of each tag so many values are looked at; those of further samples are tifffile's to check."""

_NDPI = 65420


@dataclass(frozen=True, slots=True)
class Directory:
    """What a directory says of its page."""

    offset: int
    """Where it lies, in bytes."""
    storage: tuple[tuple[int, ...], ...]
    """The values of the tags that decide about decoding, in the order of their names."""
    auxiliary: bool
    """Whether it calls its page a smaller version of another, or a mask."""

    def unlike(self, other: Directory) -> str:
        """Return in words what the pages of two directories differ in, or ''."""
        if self.storage == other.storage:
            return ""
        pairs = zip(_STORAGE.values(), self.storage, other.storage, strict=True)
        return ", ".join(name for name, mine, yours in pairs if mine != yours)


def read_directories(path: Path) -> tuple[Directory, ...]:
    """Return the directories of the chain of a TIFF, in order; none for a dialect of TIFF.

    A chain that breaks off ends there. Raises ImageError for one that runs in circles, or lists
    more than an image can have, and OSError or struct.error where the header cannot be read.
    """
    with path.open("rb") as file:
        form = _Form.of(file)
        return () if form is None else tuple(_walk(form, path))


def first_description(path: Path) -> bytes:
    """Return the description of the first page, b'' where there is none that can be read.

    A tenth of a millisecond: a collection may have 10,000 files.
    """
    try:
        with path.open("rb") as file:
            form = _Form.of(file)
            if form is None:
                return b""
            entries, _ = form.entries(form.first)
            kind, count, place = entries[IMAGE_DESCRIPTION]
            return form.value(kind, count, place, count)
    except (OSError, struct.error, LookupError):
        return b""


@dataclass(frozen=True, slots=True)
class _Form:
    """A file with the sizes of its numbers: those of TIFF or of BigTIFF, in its byte order."""

    file: BinaryIO
    size: int
    order: str
    big: bool
    first: int

    @classmethod
    def of(cls, file: BinaryIO) -> _Form | None:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None:
            return None
        (version,) = struct.unpack_from(order + "H", head, 2)
        if version not in (42, 43):
            return None
        big = version == 43
        (first,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
        return cls(file, file.seek(0, os.SEEK_END), order, big, first)

    @property
    def room(self) -> int:
        """Bytes of a value that lies within its tag."""
        return 8 if self.big else 4

    def entries(self, offset: int) -> tuple[dict[int, tuple[int, int, bytes]], int]:
        """Return type, count and value by tag of the directory at `offset`, and the next offset."""
        self.file.seek(offset)
        head = "Q" if self.big else "H"
        (count,) = struct.unpack(self.order + head, self.file.read(struct.calcsize("=" + head)))
        if count > MOST_TAGS:
            raise struct.error(f"{count} tags")
        entry = struct.Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))
        data = self.file.read(count * entry.size + self.room)
        (following,) = struct.unpack(self.order + ("Q" if self.big else "I"), data[-self.room :])
        tags = entry.iter_unpack(data[: count * entry.size])
        return {code: (kind, number, place) for code, kind, number, place in tags}, following

    def value(self, kind: int, count: int, place: bytes, most: int) -> bytes:
        """Return the bytes of up to `most` values of a tag."""
        wanted = struct.calcsize("=" + _FORMATS.get(kind, "B")) * min(count, most)
        if struct.calcsize("=" + _FORMATS.get(kind, "B")) * count <= self.room:
            return place[:wanted]
        (offset,) = struct.unpack(self.order + ("Q" if self.big else "I"), place)
        self.file.seek(offset)
        return self.file.read(min(wanted, self.size))

    def numbers(self, kind: int, count: int, place: bytes) -> tuple[int, ...]:
        """Return the first values of a tag of numbers."""
        letter = _FORMATS.get(kind)
        if letter is None:
            return ()
        data = self.value(kind, count, place, _MOST_VALUES)
        count = len(data) // struct.calcsize("=" + letter)
        return struct.unpack_from(f"{self.order}{count}{letter}", data)


def _walk(form: _Form, path: Path) -> Iterator[Directory]:
    seen: set[int] = set()
    known: dict[tuple[tuple[int, int, bytes] | None, ...], Directory] = {}
    empty = 0
    offset = form.first
    while 0 < offset < form.size:
        if offset in seen:
            raise ImageError(
                f"{path} is damaged: after {len(seen)} pages its list of pages leads back to byte "
                f"{offset}; copy or write it again"
            )
        if len(seen) == MOST_PAGES or empty == MOST_EMPTY:
            raise ImageError(
                f"{path} lists {len(seen)} pages or more, {empty} of them without a size, which no "
                "image has: it is damaged; copy or write it again"
            )
        seen.add(offset)
        try:
            entries, following = form.entries(offset)
            if _NDPI in entries and not form.big:
                return
            empty += _WIDTH not in entries
            # Most pages of a stack have the same tags: what those say is found out once.
            key = tuple(map(entries.get, _LOOKED_AT))
            if key not in known:
                known[key] = _describe(form, offset, entries, path)
            yield Directory(offset, known[key].storage, known[key].auxiliary)
        except struct.error:
            return
        offset = following


def _describe(
    form: _Form, offset: int, entries: dict[int, tuple[int, int, bytes]], path: Path
) -> Directory:
    def values(code: int) -> tuple[int, ...]:
        found = form.numbers(*entries[code]) if code in entries else ()
        return tuple(dict.fromkeys(found)) or _DEFAULTS.get(code, ())

    samples = values(_SAMPLES)
    if samples and samples[0] > MOST_SAMPLES:
        raise ImageError(
            f"{path} has {samples[0]} samples for each pixel; at most {MOST_SAMPLES} can be read: "
            "it is damaged; copy or write it again"
        )
    subfile = values(_SUBFILE)
    return Directory(
        offset,
        tuple(values(code) for code in _STORAGE),
        bool(subfile and subfile[0] & _REDUCED_OR_MASK),
    )
