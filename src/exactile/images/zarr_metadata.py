"""What is written about an OME-Zarr image, in the words of OME-NGFF 0.4 and 0.5.

Both versions say the same in other places: 0.4 in the attributes of a Zarr 2 group, 0.5 under `ome`
in those of a Zarr 3 group. It goes through the models of ome-zarr-models: nothing that does not fit
them is written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ome_zarr_models.v04.image_label_types import Label as Label04
from ome_zarr_models.v04.multiscales import Multiscale as Multiscale04
from ome_zarr_models.v05.image_label_types import Label as Label05
from ome_zarr_models.v05.multiscales import Multiscale as Multiscale05

from exactile.images.metadata import ImageMetadata, Length, PhysicalSize
from exactile.images.sink import OutputImage
from exactile.images.text import fit_for_xml
from exactile.images.units import ngff_unit
from exactile.images.zarr_axes import AXES, TYPES
from exactile.images.zarr_layout import NgffVersion

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


def build_attributes(image: OutputImage, levels: int, version: NgffVersion) -> dict[str, Any]:
    """Return the attributes of an image's group whose arrays are called 0, 1, ... `levels` - 1.

    Each level has half the size of the one before, and pixels of twice its size.
    """
    metadata = image.metadata
    entry = {
        "axes": [_axis(name, getattr(metadata, name, None)) for name in AXES],
        "datasets": [
            {"path": str(level), "coordinateTransformations": _transformations(metadata, level)}
            for level in range(levels)
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
    axis = {"name": name, "type": TYPES[name]}
    unit = None if size is None else ngff_unit(size.unit)
    return axis if unit is None else axis | {"unit": unit}


def _transformations(metadata: ImageMetadata, level: int) -> list[dict[str, Any]]:
    """Return size and place of the pixels of a level; the place only where it is known."""
    sizes: dict[str, PhysicalSize | None] = {axis: getattr(metadata, axis) for axis in "tzyx"}
    scale = [
        (1.0 if size is None else size.value) * (2.0**level if axis in "yx" else 1.0)
        for axis, size in ((axis, sizes.get(axis)) for axis in AXES)
    ]
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    places = [_place(getattr(metadata, f"origin_{a}", None), sizes.get(a)) for a in AXES]
    if any(place is not None for place in places):
        steps.append({"type": "translation", "translation": [place or 0.0 for place in places]})
    return steps


def _place(origin: Length | None, size: PhysicalSize | None) -> float | None:
    """Return the place of the first pixel in the unit of the axis, which is that of its pixels."""
    if origin is None:
        return None
    return origin.value_in("pixel" if size is None else size.unit)


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
            {"label-value": value, "class": fit_for_xml(name)}
            for value, name in enumerate(image.labels)
        ],
    }
