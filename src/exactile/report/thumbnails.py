"""Previews made small enough to lie inside a page, as data URIs."""

from __future__ import annotations

import io
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

MOST_EMBEDDED = 48
"""How many images of a run have their picture in the page; the files have them all."""

SIDES = ((2, 1024), (8, 640), (MOST_EMBEDDED, 320))
"""The longer side of the pictures, for at most so many of them: together some 1 MB."""

QUALITY = 84


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture as a page holds it."""

    uri: str
    """The JPEG itself."""
    width: int
    height: int


def side_for(count: int) -> int:
    """Return the longer side of the thumbnails of a page with `count` of them."""
    return next((side for most, side in SIDES if count <= most), SIDES[-1][1])


def spread(count: int) -> frozenset[int]:
    """Return which of `count` images are shown: all, or MOST_EMBEDDED at equal distances."""
    shown = min(count, MOST_EMBEDDED)
    return frozenset(index * count // shown for index in range(shown))


def thumbnail(path: Path, side: int) -> Thumbnail | None:
    """Return the picture at `path` with a longer side of at most `side`; None if there is none."""
    held = io.BytesIO()
    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB")
        small.thumbnail((side, side), Image.Resampling.BOX)
        small.save(held, "JPEG", quality=QUALITY, optimize=True)
    except (OSError, UnidentifiedImageError):
        return None
    uri = "data:image/jpeg;base64," + b64encode(held.getvalue()).decode("ascii")
    return Thumbnail(uri, *small.size)
