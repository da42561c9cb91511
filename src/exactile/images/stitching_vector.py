"""Stitching vectors: where the files of a collection lie in one large image.

A text file, as MIST writes it and WIPP passes it on, with a line for each file:

    file: NAME; corr: 0.98; position: (x, y); grid: (column, row);

`position` is that of the file's first pixel, in pixels. Lines are taken in their order, blank ones
aside; the correlation and the place in the grid change no pixel and are only checked for form.
Blanks at the ends of a line or around its parts, either kind of line end, a byte order mark, and
names with blanks, brackets or letters of any script are understood. A position may be written as
`12.0`, not as `12.5`. Where positions are negative, all are moved by the least of their axis, so
that the image begins at (0, 0); positive ones stay, and leave the image blank before them: so does
the image assembler.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from exactile.errors import CollectionError

FORM = "file: NAME; corr: 0; position: (x, y); grid: (column, row);"

VECTOR_NAMES = "img-global-positions-*.txt"
"""How the vectors in a folder are called: one image each, such as the time points of a series."""

MOST_LINE = 4096
"""Characters of a line; what is longer is no stitching vector."""

MOST_FILES = 10**6
"""Lines of a vector."""

LARGEST = 2**31
"""No position is further from zero, in pixels: no image format has longer sides."""

_NUMBER = r"[-+]?\d{1,10}(?:\.0*)?"
_PAIR = re.compile(rf"\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)")


@dataclass(frozen=True, slots=True)
class Placement:
    """One line of a stitching vector."""

    line: int
    """Its number in the vector, from 1."""
    name: str
    """The file's name in the collection."""
    y: int
    """Row of the image at which the file's first pixel lies; never negative."""
    x: int
    """Column of the image at which it lies; never negative."""


def find_vectors(path: Path) -> tuple[Path, ...]:
    """Return the stitching vector `path`, or those in the folder `path` in the order of numbers.

    Raises:
        CollectionError: if there are none.
    """
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise CollectionError(f"--stitchingVector {path} does not exist: give a file or a folder")
    found = [each for each in path.glob(VECTOR_NAMES) if each.is_file()]
    if not found:
        raise CollectionError(
            f"--stitchingVector {path} is a folder without {VECTOR_NAMES}: give the vector itself"
        )
    return tuple(sorted(found, key=lambda each: (_number_of(each), each.name)))


def _number_of(vector: Path) -> int:
    digits = re.search(r"\d+$", vector.stem)
    return int(digits[0]) if digits else -1


def read_vector(path: Path) -> tuple[Placement, ...]:
    """Return the lines of the stitching vector `path`, in their order, moved to begin at (0, 0).

    Raises:
        CollectionError: if it cannot be read or is empty; naming the line that is not of the
            form, or the two that place the same file.
    """
    try:
        placements = tuple(_parse(path))
    except OSError as error:
        raise CollectionError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CollectionError(
            f"{path} is no stitching vector: it is not text in UTF-8; its lines are '{FORM}'"
        ) from error
    if not placements:
        raise CollectionError(f"{path} places no file: a stitching vector has lines '{FORM}'")
    top = min(0, *(each.y for each in placements))
    left = min(0, *(each.x for each in placements))
    return tuple(replace(each, y=each.y - top, x=each.x - left) for each in placements)


def _parse(path: Path) -> Iterator[Placement]:
    lines: dict[str, int] = {}
    for number, line in _lines(path):
        found = _placement(number, line)
        if found is None:
            shown = line if len(line) <= 120 else f"{line[:120]}..."
            raise CollectionError(
                f"{path}, line {number} is {shown!r}; a stitching vector has lines '{FORM}', "
                f"with whole numbers of pixels, {LARGEST} at most: mend or remove the line"
            )
        other = lines.setdefault(found.name, number)
        if other != number:
            raise CollectionError(
                f"{path} places {found.name} twice, in the lines {other} and {number}: remove one "
                "of them"
            )
        if len(lines) > MOST_FILES:
            raise CollectionError(
                f"{path} places more than {MOST_FILES} files: split it into several vectors"
            )
        yield found


def _placement(number: int, line: str) -> Placement | None:
    """Return what a line says; None where it is not of the form.

    It is taken apart from its end: names may have semicolons, and nothing after them has.
    """
    parts = [part.strip() for part in line.removesuffix(";").rsplit(";", 3)]
    labels = ("file:", "corr:", "position:", "grid:")
    if len(parts) < 4 or not all(map(str.startswith, parts, labels)):
        return None
    name, _, *pairs = (
        part.removeprefix(label).strip() for part, label in zip(parts, labels, strict=True)
    )
    position, grid = (_PAIR.fullmatch(pair) for pair in pairs)
    if len(line) > MOST_LINE or "\0" in name or not name or not position or not grid:
        return None
    x, y = map(_whole, position.groups())
    return Placement(number, name, y, x) if max(abs(x), abs(y)) <= LARGEST else None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text, without blanks at its ends, of every line that is not blank."""
    number = 0
    with path.open(encoding="utf-8-sig") as file:
        while text := file.readline(MOST_LINE + 1):
            number += 1
            if text.strip():
                yield number, text.strip()


def _whole(number: str) -> int:
    return int(number.partition(".")[0])
