"""The images of a TIFF that is no OME-TIFF, as tifffile finds them by the formats that it knows.

tifffile falls back to a plain sequence of pages where what a format says does not fit the pages,
and logs it. A stack would then be taken for time points in silence: here that is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from math import prod
from pathlib import Path

from tifffile import TiffFile, TiffPage, TiffPageSeries

from exactile.errors import ImageError
from exactile.geometry import PLANES
from exactile.images.tiff_directories import Directory
from exactile.images.tiff_image import Pages, TiffImage

_FORMATS = {
    "shaped": "tifffile",
    "lsm": "Zeiss LSM",
    "imagej": "ImageJ",
    "ndtiff": "NDTiff",
    "fluoview": "Olympus FluoView",
    "stk": "MetaMorph STK",
    "sis": "Olympus SIS",
    "svs": "Aperio SVS",
    "scn": "Leica SCN",
    "qpi": "PerkinElmer QPTIFF",
    "ndpi": "Hamamatsu NDPI",
    "bif": "Ventana BIF",
    "avs": "Argos AVS",
    "philips": "Philips TIFF",
    "scanimage": "ScanImage",
    "indica": "IndicaLabs",
}
"""The formats whose descriptions say what the pages are, in the order in which tifffile asks."""

_SLIDES = {"svs", "scn", "qpi", "ndpi", "avs", "philips"}
_AUXILIARY = re.compile(
    r"\b(label|macro|thumbnail|thumb|overview|map|preview|barcode|navigator|probability)", re.I
)
_OUTER = frozenset("TZC")


def series_images(tiff: TiffFile, path: Path, directories: Sequence[Directory]) -> list[TiffImage]:
    """Return the images of an open TIFF. Raises ImageError where its description does not fit it.

    tifffile raises what it will (DAMAGE) for a structure that makes no sense.
    """
    described = next((name for name in _FORMATS if getattr(tiff, "is_" + name, False)), "")
    if described == "bif":
        raise ImageError(
            f"{path} is a Ventana BIF slide, whose tiles overlap and have to be stitched: convert "
            "it to OME-TIFF first"
        )
    series = tiff.series
    _check(path, tiff, series[0], described, len(directories))
    return [_image(each, described) for each in series]


def is_auxiliary(name: str) -> bool:
    """Return whether an image is called a label, a thumbnail, an overview or the like."""
    return _AUXILIARY.search(name) is not None


def _image(series: TiffPageSeries, described: str) -> TiffImage:
    axes, shape, keyframe = series.get_axes(False), series.get_shape(False), series.keyframe
    missing = [axis for axis in "XY" if axis not in axes]
    named = described in _SLIDES and is_auxiliary(series.name)

    def load() -> Pages:
        return [series[number] for number in range(len(series))]

    run = len(series) == 1 and _planes(axes, shape) > keyframe.shaped[0] and not missing
    return TiffImage(
        name="" if series.name == "Baseline" else series.name,
        axes=axes,
        shape=tuple(shape),
        keyframe=keyframe,
        load=load,
        auxiliary=named or keyframe.is_reduced or keyframe.is_mask,
        data_offset=series.dataoffset if run else None,
    )


def _planes(axes: str, shape: Sequence[int]) -> int:
    """Return how many planes of one sample the axes before Y and X make."""
    return prod(shape[: axes.index("Y")]) if "Y" in axes else 1


def _check(path: Path, tiff: TiffFile, first: TiffPageSeries, described: str, pages: int) -> None:
    axes, shape = first.get_axes(False), first.get_shape(False)
    outer = {a for a, side in zip(axes, shape, strict=True) if side > 1} - set("YXS")
    if first.transform is not None:
        raise ImageError(
            f"{path} stores its pixels in a scale of its own ({first.kind}), which has to be "
            "converted: write it as OME-TIFF"
        )
    if first.is_multifile:
        raise ImageError(
            f"{path} keeps some of its planes in other files; write them into one file"
        )
    # A plane that another program cut out is a plane still; Aperio's name stands on single planes.
    plane = not outer and pages <= 1 and (described == "svs" or _is_said_to_be_plane(tiff))
    if not described or plane:
        return
    unsure = first.kind != described and (bool(outer) or described != "svs")
    if described == "shaped":
        unsure = unsure or _differs_from_json(first, tiff.pages.first)
    if described in ("scanimage", "indica", "imagej"):
        unsure = unsure or ("I" in outer and (described != "imagej" or len(outer) > 1))
    if unsure:
        given = ", ".join(f"{a}={side}" for a, side in zip(axes, shape, strict=True) if side > 1)
        raise ImageError(
            f"{path} has a description of {_FORMATS[described]} that does not fit its pages "
            f"({given}; {pages} pages): it cannot be said which of them are Z, C or T; write it "
            "as an OME-TIFF that names them"
        )


def _is_said_to_be_plane(tiff: TiffFile) -> bool:
    """Return whether tifffile's own description of the first page says that it is (Y, X)."""
    shape, _ = _said_by_tifffile(tiff.pages.first)
    return shape is not None and len(shape) == PLANES


def _differs_from_json(series: TiffPageSeries, page: TiffPage) -> bool:
    """Return whether tifffile's own description says another shape, or other axes."""
    shape, axes = _said_by_tifffile(page)
    return (shape is not None and shape != tuple(series.get_shape(False))) or (
        axes is not None and axes != series.get_axes(False)
    )


def _said_by_tifffile(page: TiffPage) -> tuple[tuple[int, ...] | None, str | None]:
    """Return shape and axes of tifffile's own description, as far as it says them in JSON."""
    text = page.shaped_description or ""
    described = json.loads(text) if text.startswith("{") else {}
    shape = described.get("shape")
    return None if shape is None else tuple(shape), described.get("axes")
