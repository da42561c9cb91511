"""What an OME-Zarr folder says about its image, in the words of OME-NGFF 0.1 to 0.5.

All versions say the same in other places: up to 0.4 in the attributes of a Zarr 2 group, 0.5 under
`ome` in those of a Zarr 3 group. What is read is what the pixels need, axes and path of an array,
and what is handed on: sizes, place, names. What is wrong in the first is refused; what is wrong in
the second is left out, with a remark. Names of channels are taken where they are, as OMERO left
them, and anything else is passed by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from exactile.images.metadata import ImageMetadata, Length, PhysicalSize
from exactile.images.units import length_unit, time_unit
from exactile.images.zarr_axes import Axis, AxisOrder, NgffError, parse_axes

_VERSIONS = ("0.1", "0.2", "0.3", "0.4", "0.5")


@dataclass(frozen=True, slots=True)
class NgffImage:
    """What is needed of an image's attributes."""

    arrays: tuple[str, ...]
    """Paths of its arrays from the group, that of full resolution first."""
    axes: tuple[Axis, ...]
    metadata: ImageMetadata
    remarks: tuple[str, ...]
    """What is left out, and why."""
    others: int = 0
    """Images beside it in the same attributes."""

    @property
    def order(self) -> AxisOrder:
        """Which axis is which."""
        return AxisOrder.of(self.axes)


@dataclass(frozen=True, slots=True)
class _Place:
    """How positions along the axes of an array become those in space and time."""

    scale: tuple[float, ...]
    translation: tuple[float, ...]
    translated: bool = False
    """Whether a translation is given at all."""


def ngff_attributes(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return those of a group's attributes that OME-NGFF speaks of, wherever its version has them.

    Raises NgffError where they are in both places, and differ.
    """
    inner = attributes.get("ome")
    if not isinstance(inner, Mapping):
        return attributes
    both = [each.get("multiscales") for each in (attributes, inner)]
    if both[0] is not None and both[0] != both[1]:
        raise NgffError("has `multiscales` both under `ome` and beside it, and they differ")
    return inner


def parse_attributes(attributes: Mapping[str, Any]) -> NgffImage:
    """Return what the attributes of an image's group say: those under `ome` for 0.5.

    Raises NgffError where they are not those of an image.
    """
    entries = attributes.get("multiscales")
    if not isinstance(entries, list) or not entries:
        raise NgffError("has no `multiscales`, which lists the arrays of an image")
    entry = entries[0]
    if not isinstance(entry, Mapping):
        raise NgffError(f"has an entry in `multiscales` that is no object: {entry!r}")
    _check_version(entry.get("version", attributes.get("version")))
    remarks: list[str] = []
    if len(entries) > 1:
        remarks.append(
            f"it has {len(entries)} entries in `multiscales`; the first is read, as the format has "
            "it"
        )
    axes = parse_axes(entry)
    datasets = entry.get("datasets")
    if not isinstance(datasets, list) or not datasets:
        raise NgffError("has no `datasets` in `multiscales`, which name the arrays of an image")
    arrays = tuple(_path(dataset) for dataset in datasets)
    steps = [*_steps(datasets[0]), *_steps(entry)]
    place = _place(steps, len(axes), remarks)
    metadata = ImageMetadata(
        **_measures(place, axes, remarks),
        channels=_channel_names(attributes),
        name=entry["name"] if isinstance(entry.get("name"), str) else "",
    )
    return NgffImage(arrays, axes, metadata, tuple(remarks), len(entries) - 1)


def _check_version(version: Any) -> None:
    """Refuse what a later version may mean by the same words."""
    if version is not None and ".".join(str(version).split(".")[:2]) not in _VERSIONS:
        raise NgffError(f"is of version {version!r} of OME-NGFF, which is not known")


def _path(dataset: Any) -> str:
    path = dataset.get("path") if isinstance(dataset, Mapping) else None
    if not isinstance(path, str):
        raise NgffError(f"names no array in `datasets`: {dataset!r}")
    parts = path.replace("\\", "/").strip("/").split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise NgffError(f"names an array outside of it, or itself: {path!r}")
    return "/".join(parts)


def _steps(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    steps = entry.get("coordinateTransformations") or []
    if not isinstance(steps, list) or not all(isinstance(step, Mapping) for step in steps):
        raise NgffError(f"has `coordinateTransformations` that are no list of them: {steps!r}")
    return steps


def _place(steps: Sequence[Mapping[str, Any]], count: int, remarks: list[str]) -> _Place | None:
    """Return all steps together; None where one of them cannot be taken, which is remarked."""
    place = _Place((1.0,) * count, (0.0,) * count)
    for step in steps:
        kind = step.get("type")
        if kind == "identity":
            continue
        if kind not in ("scale", "translation") or kind not in step:
            remarks.append(f"its pixels are placed by {kind!r}, which is not read: sizes are lost")
            return None
        numbers = _numbers(step[kind], count, kind)
        if kind == "scale":
            place = _Place(
                tuple(a * b for a, b in zip(place.scale, numbers, strict=True)),
                tuple(a * b for a, b in zip(place.translation, numbers, strict=True)),
                place.translated,
            )
        else:
            moved = tuple(a + b for a, b in zip(place.translation, numbers, strict=True))
            place = _Place(place.scale, moved, translated=True)
    return place


def _numbers(values: Any, count: int, kind: str) -> tuple[float, ...]:
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(isinstance(v, Real) and not isinstance(v, bool) for v in values)
    ):
        raise NgffError(f"has a {kind} that is not one number for each of {count} axes: {values!r}")
    try:
        return tuple(map(float, values))
    except OverflowError:
        raise NgffError(f"has a {kind} that is no number of this world") from None


def _measures(place: _Place | None, axes: Sequence[Axis], remarks: list[str]) -> dict[str, Any]:
    """Return sizes and place by the names that ImageMetadata has for them."""
    found: dict[str, Any] = {}
    if place is None:
        return found
    for number, axis in enumerate(axes):
        if axis.name not in ("x", "y", "z", "t"):
            continue
        scale, unit = place.scale[number], _unit(axis, remarks)
        if unit == "" or (axis.name == "t" and unit is None):
            continue
        if not 0 < scale < math.inf:
            remarks.append(f"a pixel measures {scale} along {axis.name}, which is left out")
        elif scale != 1 or unit is not None:
            found[axis.name] = PhysicalSize(scale, unit or "pixel")
        translation = place.translation[number]
        if place.translated and axis.name != "t" and math.isfinite(translation):
            found[f"origin_{axis.name}"] = Length(translation, unit or "pixel")
    return found


def _unit(axis: Axis, remarks: list[str]) -> str | None:
    """Return the unit of an axis; None where it has none, '' for one that is not known."""
    if axis.unit in (None, ""):
        return None
    found = time_unit(axis.unit) if axis.name == "t" else length_unit(axis.unit)
    if found is None:
        remarks.append(
            f"its unit {axis.unit!r} along {axis.name} is none that is known: sizes are left out"
        )
    return found or ""


def _channel_names(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    omero = attributes.get("omero")
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(channels, list) or not all(isinstance(c, Mapping) for c in channels):
        return ()
    names = tuple(str(channel.get("label") or "") for channel in channels)
    return names if any(names) else ()
