"""What a TIFF says about the size of its pixels, in OME-XML or in its own format's way.

Only what a format gives for microscopy counts: resolutions of plain TIFF files are those of paper,
unless they are in centimetres as programs for slides write them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from tifffile import TiffFile

from exactile.images.metadata import ImageMetadata, PhysicalSize
from exactile.images.tiff_file import TiffContents
from exactile.images.tiff_image import TiffImage
from exactile.images.units import length_unit

if TYPE_CHECKING:
    from ome_types import OME

_OF_PAPER = ("pixel", "in", "ft")
"""Units that ImageJ has for images whose pixels have no size that anybody measured."""

_X_RESOLUTION, _Y_RESOLUTION, _UNIT, _CENTIMETRE = 282, 283, 296, 3
_MPP = re.compile(r"\|\s*MPP\s*=\s*([0-9.]+)")


def metadata_of(contents: TiffContents, ome: OME | None) -> ImageMetadata:
    """Return what is known of the image of an open TIFF, whose OME-XML is `ome`."""
    image = contents.image
    if image.ome is not None:
        known = ome is not None and image.ome < len(ome.images)
        return ImageMetadata.from_ome(ome, image.ome) if ome and known else ImageMetadata()
    x, y, z = _pixel_size(contents.tiff, image)
    interval = (contents.tiff.imagej_metadata or {}).get("finterval")
    return ImageMetadata(x=x, y=y, z=z, t=_size(interval, "s"), name=image.name)


def _pixel_size(tiff: TiffFile, image: TiffImage) -> tuple[PhysicalSize | None, ...]:
    """Return width, height and distance of the planes, as far as a format says."""
    if tiff.is_imagej:
        return _imagej(tiff, image)
    if tiff.is_svs:
        found = _MPP.search(tiff.pages.first.description)
        size = _size(found and found[1], "µm")
        return size, size, None
    if tiff.is_lsm:
        voxel = tiff.lsm_metadata or {}
        return tuple(_size(voxel.get("VoxelSize" + axis), "µm", 1e6) for axis in "XYZ")
    if tiff.is_scn:
        return _scn(tiff, image)
    if tiff.is_micromanager:
        summary = (tiff.micromanager_metadata or {}).get("Summary", {})
        side = _size(summary.get("PixelSize_um"), "µm")
        return side, side, _size(summary.get("z-step_um"), "µm")
    x, y = _resolution(image)
    if image.keyframe.tags.valueof(_UNIT) == _CENTIMETRE and x and y:
        return PhysicalSize(1e4 / x), PhysicalSize(1e4 / y), None
    return None, None, None


def _imagej(tiff: TiffFile, image: TiffImage) -> tuple[PhysicalSize | None, ...]:
    """ImageJ gives pixels for each unit of its own, and the distance of planes in it."""
    described: Mapping[str, Any] = tiff.imagej_metadata or {}
    unit = length_unit(str(described.get("unit", "")).replace("\\u00B5", "µ"))
    if unit is None or unit in _OF_PAPER:
        return None, None, None
    x, y = _resolution(image)
    return (
        PhysicalSize(1 / x, unit) if x else None,
        PhysicalSize(1 / y, unit) if y else None,
        _size(described.get("spacing"), unit),
    )


def _scn(tiff: TiffFile, image: TiffImage) -> tuple[PhysicalSize | None, ...]:
    """Leica gives the extent of what is seen in nanometres."""
    for element in ElementTree.fromstring(tiff.pages.first.description).iter():
        numbers = [each.get("ifd") for each in element.iter() if each.get("r", "0") == "0"]
        if element.tag.endswith("image") and str(image.keyframe.index) in numbers:
            view = next((each for each in element if each.tag.endswith("view")), None)
            if view is not None:
                width, height = image.size
                x, y = view.get("sizeX"), view.get("sizeY")
                return _size(x, "µm", 1e-3 / width), _size(y, "µm", 1e-3 / height), None
    return None, None, None


def _resolution(image: TiffImage) -> tuple[float, float]:
    """Return pixels for each unit of length in X and Y; 0 where that is not said."""
    found = []
    for code in (_X_RESOLUTION, _Y_RESOLUTION):
        value = image.keyframe.tags.valueof(code)
        whole = isinstance(value, tuple) and len(value) == 2 and all(value)
        found.append(value[0] / value[1] if whole else 0.0)
    return found[0], found[1]


def _size(value: Any, unit: str, scale: float = 1.0) -> PhysicalSize | None:
    """Return a length if `value` is a number above zero."""
    try:
        length = float(value) * scale
    except (TypeError, ValueError):
        return None
    return PhysicalSize(length, unit) if 0 < length < math.inf else None
