"""What the numbers in a page mean: which kinds are read, and which are colours of another kind.

A network is given intensities. Stored numbers that are something else (inverted ones, inks, filter
mosaics, luminance and chrominance) would go through it without an error, and give a wrong result:
they are decoded where there is one way to, and refused otherwise.

Aperio's JPEG 2000 of scheme 33003 holds luminance and chrominance, whatever the page calls its
samples; it is converted as JPEG files are (ITU-T T.871, in the integers of the IJG's decoder).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from exactile.errors import ImageError

logger = logging.getLogger(__name__)

APERIO_YCBCR = 33003
"""JPEG 2000 of luminance and chrominance, as Aperio writes it."""

_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_PHOTOMETRIC, _COLOUR_MAP = 262, 320
_JPEG = frozenset({6, 7, 34892, 33007})
"""The schemes whose decoder gives RGB for luminance and chrominance."""

_NAMES = {
    4: "a transparency mask",
    5: "CMYK inks",
    8: "CIE L*a*b* colours",
    9: "ICC L*a*b* colours",
    10: "ITU L*a*b* colours",
    32803: "a colour filter mosaic (raw camera data)",
    32844: "logarithmic luminance",
    32845: "logarithmic colours",
    34892: "raw camera data",
}


def check_colours(page: TiffPage, path: Path) -> None:
    """Raise ImageError where the numbers of a page are not intensities, grey or red, green, blue.

    The numbers of a palette are read as they are, as tifffile and Bio-Formats read them, and that
    is logged where the palette is no ramp from dark to bright.
    """
    photometric = int(page.photometric) if _PHOTOMETRIC in page.tags else _MIN_IS_BLACK
    if photometric == _MIN_IS_WHITE:
        raise ImageError(
            f"{path} stores bright as 0 (TIFF's WhiteIsZero), which programs read in two ways: "
            "invert it, and write it with 0 for black"
        )
    plain_ycbcr = page.compression not in (*_JPEG, APERIO_YCBCR) or page.planarconfig != 1
    if photometric == _YCBCR and plain_ycbcr:
        raise ImageError(
            f"{path} stores luminance and chrominance (YCbCr) in scheme {int(page.compression)}, "
            "which is not converted: write it as RGB"
        )
    if photometric not in (_MIN_IS_BLACK, _RGB, _PALETTE, _YCBCR):
        kind = _NAMES.get(photometric, f"colours of an unknown kind ({photometric})")
        raise ImageError(
            f"{path} stores {kind}, which no network is made for: write it as RGB or grey"
        )
    if page.compression == APERIO_YCBCR and (page.samplesperpixel != 3 or page.planarconfig != 1):
        raise ImageError(
            f"{path} is compressed by Aperio's scheme {APERIO_YCBCR} in "
            f"{page.samplesperpixel} samples, which has three: write it again as RGB"
        )
    if page.compression == 1 and page.predictor != 1:
        raise ImageError(
            f"{path} names a predictor without compression, which programs read in two ways: write "
            "it again"
        )
    if photometric == _PALETTE and not _is_ramp(page):
        logger.warning(
            "%s has a palette of colours: the numbers that are looked up in it are read, not the "
            "colours; write it as RGB if it is a colour image",
            path,
        )


def to_rgb(decoded: NDArray[Any], page: TiffPage) -> NDArray[Any]:
    """Return a decoded segment (..., samples) as intensities."""
    if page.compression != APERIO_YCBCR:
        return decoded
    luma = decoded[..., 0].astype(np.int32)
    blue, red = (decoded[..., i].astype(np.int32) - 128 for i in (1, 2))
    half = 1 << 15
    rgb = np.stack(
        (
            luma + ((91881 * red + half) >> 16),
            luma + ((-22554 * blue - 46802 * red + half) >> 16),
            luma + ((116130 * blue + half) >> 16),
        ),
        axis=-1,
    )
    return rgb.clip(0, 255).astype(decoded.dtype)


def _is_ramp(page: TiffPage) -> bool:
    """Return whether the colours of a palette get brighter with their numbers, in each sample."""
    colours = page.colormap
    return colours is not None and bool((np.diff(colours.astype(np.int64), axis=-1) >= 0).all())
