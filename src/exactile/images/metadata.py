"""What an image says about itself besides its pixels, and the OME-XML that carries it.

Reading is lenient (a file whose description is broken is still a readable image); writing is
strict and deterministic: the same metadata, shape and dtype give the same text, without the random
identifiers and the dates that make two equal files differ.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from exactile.images.text import fit_for_xml

if TYPE_CHECKING:
    # ome-types takes half a second to import: too long for `--help`.
    from ome_types import OME
    from ome_types.model import Pixels, Plane

logger = logging.getLogger(__name__)

PIXEL_TYPES = {
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "float32": "float",
    "float64": "double",
}
"""The pixel types that are read and written, by numpy's name, as OME-XML calls them."""

_CENTIMETRES = {
    "pm": 1e-10,
    "Å": 1e-8,
    "nm": 1e-7,
    "µm": 1e-4,
    "mm": 1e-1,
    "cm": 1.0,
    "dm": 10.0,
    "m": 100.0,
    "km": 1e5,
    "in": 2.54,
    "ft": 30.48,
}


@dataclass(frozen=True, slots=True)
class PhysicalSize:
    """The extent of one pixel along one axis."""

    value: float
    """Length in `unit`; above zero."""
    unit: str = "µm"
    """The symbol that OME-XML uses, such as µm, nm or pixel; of a step in time, s or ms."""

    @property
    def centimetres(self) -> float | None:
        """The length in centimetres, or None where the unit is not one of length."""
        scale = _CENTIMETRES.get(self.unit)
        return None if scale is None else self.value * scale


@dataclass(frozen=True, slots=True)
class Length:
    """A place along one axis."""

    value: float
    """Length in `unit`; may be below zero."""
    unit: str = "µm"
    """The symbol that OME-XML uses."""

    def value_in(self, unit: str) -> float | None:
        """Return the length in another unit, or None where that cannot be said."""
        if unit == self.unit:
            return self.value
        here, there = _CENTIMETRES.get(self.unit), _CENTIMETRES.get(unit)
        return None if here is None or there is None else self.value * here / there


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """Physical size, place, channel names and name of an image; every part may be absent.

    Names hold what every kind of file can hold; see `fit_for_xml`.
    """

    x: PhysicalSize | None = None
    """Width of a pixel."""
    y: PhysicalSize | None = None
    """Height of a pixel."""
    z: PhysicalSize | None = None
    """Distance between planes."""
    channels: tuple[str, ...] = ()
    """One name for each channel, '' where a channel has none; empty where none has."""
    name: str = ""
    """The name of the image inside the file; not the file's name."""
    t: PhysicalSize | None = None
    """Time between time points."""
    origin_x: Length | None = None
    """Where the first pixel lies."""
    origin_y: Length | None = None
    """Where the first pixel lies."""
    origin_z: Length | None = None
    """Where the first plane lies."""

    def __post_init__(self) -> None:
        # The only way to set what a frozen dataclass was given.
        object.__setattr__(self, "name", fit_for_xml(self.name))
        object.__setattr__(self, "channels", tuple(map(fit_for_xml, self.channels)))

    @classmethod
    def from_ome(cls, ome: OME, number: int = 0) -> ImageMetadata:
        """Return what an image of `ome` says, the first if no number from 0 is given."""
        image = ome.images[number]
        pixels = image.pixels
        names = tuple(
            channel.name or ""
            for channel in pixels.channels
            for _ in range(channel.samples_per_pixel or 1)
        )
        return cls(
            x=_physical_size(pixels, "x"),
            y=_physical_size(pixels, "y"),
            z=_physical_size(pixels, "z"),
            channels=names if any(names) else (),
            name=image.name or "",
            t=_time_increment(pixels),
            **{f"origin_{axis}": _origin(pixels.planes, axis) for axis in "xyz"},
        )


def parse_ome(xml: str | None, path: Path) -> OME | None:
    """Return the OME model of a file's description, or None where there is none to be had.

    A description that does not parse, or has no image, is logged with `path` and otherwise
    treated as absent.
    """
    if xml is None:
        return None
    if "<!DOCTYPE" in xml:
        # OME-XML has none; one could name other files, or entities that grow without end.
        logger.warning("%s: its OME-XML has a document type of its own and is ignored", path)
        return None
    import ome_types

    try:
        ome = ome_types.from_xml(xml, validate=False)
    except Exception as error:  # noqa: BLE001 - what parsers raise for what others wrote is no list
        logger.warning("%s: its OME-XML cannot be read and is ignored: %s", path, error)
        return None
    if not ome.images:
        logger.warning("%s: its OME-XML has no image and is ignored", path)
        return None
    return ome


def build_ome_xml(
    metadata: ImageMetadata, shape: tuple[int, int, int, int, int], dtype: np.dtype[Any]
) -> str:
    """Return the OME-XML of an image of `shape` (T, C, Z, Y, X), its pages in XYZCT order.

    Raises ValueError for a dtype that OME has no name for, and where there are channel names but
    not one for each channel.
    """
    from ome_types import OME, model

    size_t, size_c, size_z, size_y, size_x = shape
    if dtype.name not in PIXEL_TYPES:
        raise ValueError(f"OME-XML has no pixel type for {dtype}")
    if metadata.channels and len(metadata.channels) != size_c:
        raise ValueError(f"{len(metadata.channels)} channel names for {size_c} channels")
    names = metadata.channels or ("",) * size_c
    pixels: dict[str, Any] = {
        "id": "Pixels:0",
        "dimension_order": "XYZCT",
        "type": PIXEL_TYPES[dtype.name],
        "big_endian": False,
        "size_x": size_x,
        "size_y": size_y,
        "size_z": size_z,
        "size_c": size_c,
        "size_t": size_t,
        "channels": [
            model.Channel(id=f"Channel:0:{index}", name=name or None, samples_per_pixel=1)
            for index, name in enumerate(names)
        ],
        "tiff_data_blocks": [model.TiffData(ifd=0, plane_count=size_t * size_c * size_z)],
    }
    for axis in "xyz":
        size: PhysicalSize | None = getattr(metadata, axis)
        if size is not None:
            pixels[f"physical_size_{axis}"] = size.value
            pixels[f"physical_size_{axis}_unit"] = size.unit
    if metadata.t is not None:
        pixels["time_increment"] = metadata.t.value
        pixels["time_increment_unit"] = metadata.t.unit
    pixels["planes"] = _planes(metadata, shape)
    image = model.Image(id="Image:0", name=metadata.name or None, pixels=model.Pixels(**pixels))
    body = OME(creator="exactile", images=[image]).to_xml()
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'


def _planes(metadata: ImageMetadata, shape: tuple[int, int, int, int, int]) -> list[dict[str, Any]]:
    """Return what OME-XML says of each plane: where it lies, if that is known at all."""
    place: dict[str, Any] = {}
    for axis in "xy":
        origin: Length | None = getattr(metadata, f"origin_{axis}")
        if origin is not None:
            place |= {f"position_{axis}": origin.value, f"position_{axis}_unit": origin.unit}
    if not place and metadata.origin_z is None:
        return []
    return [
        place | _height(metadata.origin_z, metadata.z, z) | {"the_t": t, "the_c": c, "the_z": z}
        for t, c, z in product(*map(range, shape[:3]))
    ]


def _height(origin: Length | None, step: PhysicalSize | None, z: int) -> dict[str, Any]:
    if origin is None or (z and (step is None or step.unit != origin.unit)):
        return {}
    value = origin.value + (0 if step is None else z * step.value)
    return {"position_z": value, "position_z_unit": origin.unit}


def _physical_size(pixels: Pixels, axis: str) -> PhysicalSize | None:
    value = getattr(pixels, f"physical_size_{axis}")
    if value is None or not 0 < value < math.inf:
        return None
    return PhysicalSize(float(value), getattr(pixels, f"physical_size_{axis}_unit").value)


def _time_increment(pixels: Pixels) -> PhysicalSize | None:
    value = pixels.time_increment
    if value is None or not 0 < value < math.inf:
        return None
    return PhysicalSize(float(value), pixels.time_increment_unit.value)


def _origin(planes: Sequence[Plane], axis: str) -> Length | None:
    """Return where the first plane lies, as all planes say that should say the same."""
    said = {
        (getattr(plane, f"position_{axis}"), getattr(plane, f"position_{axis}_unit").value)
        for plane in planes
        if axis != "z" or plane.the_z == 0
    }
    if len(said) != 1:
        return None
    ((value, unit),) = said
    return None if value is None or not math.isfinite(value) else Length(float(value), unit)
