"""The SampleFormat tag, on pages of unsigned pixels too.

It may be left out there by TIFF's rules, and tifffile does. Readers that ask libtiff for the tag
itself, and not for its default, then see a format 0 and refuse the file: nyxus is one. tifffile
keeps the tag to itself where a caller names it, so it is let through once, here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tifffile import TIFF

_SAMPLE_FORMAT, _SHORT, _UNSIGNED = 339, 3, 1

TIFF.__dict__["TAG_FILTERED"] = TIFF.TAG_FILTERED - {_SAMPLE_FORMAT}


def sample_format(dtype: np.dtype[Any]) -> list[tuple[int, int, int, int, bool]]:
    """Return `extratags` for `TiffWriter.write`: for pages of one sample of `dtype`."""
    return [(_SAMPLE_FORMAT, _SHORT, 1, _UNSIGNED, False)] if dtype.kind == "u" else []
