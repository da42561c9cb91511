"""What an OME-Zarr folder says about its image, in the words of OME-NGFF 0.4 and 0.5.

Both versions say the same in other places: 0.4 in the attributes of a Zarr 2 group, 0.5 under `ome`
in those of a Zarr 3 group. Axes, datasets and scales go through the models of ome-zarr-models, in
both directions: what does not fit them is refused, and nothing that does not fit is written. What
bfio writes, 0.1 without scales, is completed before. Names of channels are taken where they are, as
OMERO left them, and anything else is passed by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ome_types.model import UnitsLength
from ome_zarr_models.common.coordinate_transformations import VectorScale
from ome_zarr_models.v04.image_label_types import Label as Label04
from ome_zarr_models.v04.multiscales import Multiscale as Multiscale04
from ome_zarr_models.v05.image_label_types import Label as Label05
from ome_zarr_models.v05.multiscales import Multiscale as Multiscale05
from pydantic import ValidationError

from exactile.images.metadata import ImageMetadata, PhysicalSize
from exactile.images.sink import OutputImage
from exactile.images.zarr_layout import NgffVersion

AXES = ("t", "c", "z", "y", "x")
"""Those of what is written, in order."""

_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}

_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""Of Okabe and Ito, which people who see fewer colours tell apart."""

_WITHOUT_LENGTH = {UnitsLength.PIXEL, UnitsLength.REFERENCEFRAME}


class NgffError(ValueError):
    """What a folder says is not an image of OME-NGFF; the text says why, without the folder."""


@dataclass(frozen=True, slots=True)
class AxisOrder:
    """Which axis of an array is which."""

    y: int
    x: int
    t: int | None = None
    c: int | None = None
    z: int | None = None
    other: int | None = None
    """An axis of another type, which is of no use here."""

    @property
    def count(self) -> int:
        """Number of axes."""
        return sum(
            axis is not None for axis in (self.t, self.c, self.z, self.y, self.x, self.other)
        )


@dataclass(frozen=True, slots=True)
class NgffImage:
    """What is needed of an image's attributes."""

    array: str
    """Path of the array of full resolution, from the group."""
    axes: AxisOrder
    metadata: ImageMetadata


def parse_attributes(attributes: Mapping[str, Any], version: NgffVersion) -> NgffImage:
    """Return what the attributes of an image's group say: those under `ome` for 0.5.

    Raises NgffError where they are not those of an image.
    """
    entries = attributes.get("multiscales")
    if not isinstance(entries, Sequence) or not entries:
        raise NgffError("has no `multiscales`, which lists the arrays of an image")
    model = Multiscale04 if version == "0.4" else Multiscale05
    try:
        multiscale: Multiscale04 | Multiscale05 = model.model_validate(_completed(entries[0]))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, ("multiscales", 0, *first["loc"])))
        raise NgffError(f"says at {place}: {first['msg']}") from error
    axes = _axis_order(multiscale)
    scale = _scale(multiscale)
    sizes = {
        name: _physical_size(scale, position, multiscale)
        for name, position in (("x", axes.x), ("y", axes.y), ("z", axes.z))
    }
    name = multiscale.name if isinstance(multiscale.name, str) else ""
    metadata = ImageMetadata(**sizes, channels=_channel_names(attributes), name=name)
    return NgffImage(multiscale.datasets[0].path, axes, metadata)


def _completed(entry: Any) -> Any:
    """Return an entry with what bfio leaves out: scales, and axes, of which 0.1 and 0.2 have all.

    What has not even the form of an entry is left to the models.
    """
    if not isinstance(entry, Mapping):
        return entry
    if entry.get("version") in ("0.1", "0.2"):
        entry = {**entry, "version": "0.4", "axes": [_axis(name, None) for name in AXES]}
    axes, datasets = entry.get("axes"), entry.get("datasets")
    if not isinstance(axes, Sequence) or not isinstance(datasets, Sequence):
        return entry
    scale = {"coordinateTransformations": [{"type": "scale", "scale": [1.0] * len(axes)}]}
    return {
        **entry,
        "datasets": [{**scale, **d} if isinstance(d, Mapping) else d for d in datasets],
    }


def _axis_order(multiscale: Multiscale04 | Multiscale05) -> AxisOrder:
    """Return the order of the axes; the models have seen that two or three are of space."""
    of_type: dict[str, list[int]] = {}
    names: dict[str, int] = {}
    axes: Sequence[Any] = multiscale.axes
    for position, axis in enumerate(axes):
        kind = axis.type if axis.type in ("time", "channel", "space") else "other"
        of_type.setdefault(kind, []).append(position)
        names[str(axis.name).lower()] = position
    space = of_type["space"]
    named = {name: position for name, position in names.items() if position in space}
    if named.keys() not in ({"y", "x"}, {"z", "y", "x"}):
        named = dict(zip(("z", "y", "x")[-len(space) :], space, strict=True))
    first = {kind: positions[0] for kind, positions in of_type.items()}
    return AxisOrder(
        named["y"],
        named["x"],
        first.get("time"),
        first.get("channel"),
        named.get("z"),
        first.get("other"),
    )


def _scale(multiscale: Multiscale04 | Multiscale05) -> tuple[float, ...] | None:
    """Return the scale of each axis at full resolution; None where it is not among the numbers."""
    steps = [
        *multiscale.datasets[0].coordinateTransformations,
        *(multiscale.coordinateTransformations or ()),
    ]
    scale = [1.0] * len(multiscale.axes)
    for step in steps:
        if isinstance(step, VectorScale):
            scale = [a * b for a, b in zip(scale, step.scale, strict=True)]
        elif step.type == "scale":
            return None
    return tuple(scale)


def _physical_size(
    scale: tuple[float, ...] | None, position: int | None, multiscale: Multiscale04 | Multiscale05
) -> PhysicalSize | None:
    """Return the size of a pixel along an axis; a scale of 1 without a unit says nothing."""
    if scale is None or position is None or not 0 < scale[position] < math.inf:
        return None
    unit = multiscale.axes[position].unit
    if not isinstance(unit, str) or unit.upper() not in UnitsLength.__members__:
        return None if scale[position] == 1 else PhysicalSize(scale[position], "pixel")
    return PhysicalSize(scale[position], UnitsLength[unit.upper()].value)


def _channel_names(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    omero = attributes.get("omero")
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(channels, Sequence) or not all(isinstance(c, Mapping) for c in channels):
        return ()
    names = tuple(str(channel.get("label") or "") for channel in channels)
    return names if any(names) else ()


def build_attributes(image: OutputImage, levels: int, version: NgffVersion) -> dict[str, Any]:
    """Return the attributes of an image's group whose arrays are called 0, 1, ... `levels` - 1.

    Each level has half the size of the one before, and pixels of twice its size.
    """
    metadata = image.metadata
    sizes = {"x": metadata.x, "y": metadata.y, "z": metadata.z}
    scales = [
        [
            (1.0 if sizes.get(axis) is None else sizes[axis].value)  # type: ignore[union-attr]
            * (2.0**level if axis in "yx" else 1.0)
            for axis in AXES
        ]
        for level in range(levels)
    ]
    entry = {
        "axes": [_axis(name, sizes.get(name)) for name in AXES],
        "datasets": [
            {
                "path": str(level),
                "coordinateTransformations": [{"type": "scale", "scale": scale}],
            }
            for level, scale in enumerate(scales)
        ],
        "name": metadata.name or None,
        "type": "mode" if image.labels else "mean",
    }
    attributes: dict[str, Any] = {}
    if version == "0.4":
        multiscale = Multiscale04.model_validate(entry | {"version": version})
        attributes["multiscales"] = [_plain(multiscale)]
    else:
        attributes["version"] = version
        attributes["multiscales"] = [_plain(Multiscale05.model_validate(entry))]
    if metadata.channels:
        attributes["omero"] = _omero(image)
    if image.labels:
        label = Label04 if version == "0.4" else Label05
        attributes["image-label"] = _plain(label.model_validate(_image_label(image, version)))
    return attributes if version == "0.4" else {"ome": attributes}


def _plain(model: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


def _axis(name: str, size: PhysicalSize | None) -> dict[str, str]:
    axis = {"name": name, "type": _TYPES[name]}
    unit = None if size is None else UnitsLength(size.unit)
    # Words of OME-NGFF, which are the names in OME-XML's list of symbols, in small letters.
    return axis if unit is None or unit in _WITHOUT_LENGTH else axis | {"unit": unit.name.lower()}


def _omero(image: OutputImage) -> dict[str, Any]:
    """Return the names of the channels, with what else viewers need there."""
    least, most = 0.0, 1.0
    if image.dtype.kind != "f":
        limits = np.iinfo(image.dtype)
        least, most = float(limits.min), float(limits.max)
    window = {"min": least, "max": most, "start": least, "end": most}
    return {
        "channels": [
            {"label": name, "color": "FFFFFF", "window": window, "active": True}
            for name in image.metadata.channels
        ]
    }


def _image_label(image: OutputImage, version: NgffVersion) -> dict[str, Any]:
    """Return colour and name of each class; class 0 is not painted."""
    return {
        "version": version,
        "colors": [
            {
                "label-value": value,
                "rgba": [*_COLOURS[(value - 1) % len(_COLOURS)], 255 if value else 0],
            }
            for value in range(len(image.labels))
        ],
        "properties": [
            {"label-value": value, "class": name} for value, name in enumerate(image.labels)
        ],
    }
