"""From a folder to the one image in it, or to why it cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zarr

from exactile.errors import ImageError
from exactile.images.metadata import ImageMetadata, parse_ome
from exactile.images.source import DEFAULT_CACHE_BYTES
from exactile.images.zarr_layout import NgffVersion
from exactile.images.zarr_metadata import NgffError, parse_attributes
from exactile.images.zarr_source import ZARR_DAMAGE, ZarrSource

_COLLECTIONS = {
    "plate": "is a plate of many images",
    "well": "is a well of several images",
    "labels": "is a group of label images",
}
"""What groups of several images have among their attributes, and what they are."""


def is_zarr(path: Path) -> bool:
    """Return whether the folder `path` says that it is a Zarr group or array."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def open_zarr(path: Path, cache_bytes: int = DEFAULT_CACHE_BYTES, threads: int = 1) -> ZarrSource:
    """Return a source for the OME-Zarr folder `path`; see `open_source`.

    A folder of bioformats2raw with a single image is that image. Raises ImageError.
    """
    group = _open_group(path)
    attributes, version = _ngff(group)
    if "bioformats2raw.layout" in attributes:
        group = _only_series(path, group)
        attributes, version = _ngff(group)
    for name, what in _COLLECTIONS.items():
        if name in attributes:
            raise ImageError(
                f"{path} {what}, not an image: give the images inside it as folders of their own, "
                "by links or copies that end in .ome.zarr"
            )
    try:
        image = parse_attributes(attributes, version)
    except NgffError as error:
        raise ImageError(
            f"{path} is not an image of OME-Zarr 0.4 or 0.5: it {error}; write it again with a "
            "current writer, or convert it to OME-TIFF"
        ) from error
    try:
        array = group[image.array]
    except ZARR_DAMAGE as error:
        raise ImageError(
            f"{path} names an array {image.array!r} that cannot be opened: {error}; copy or write "
            "it again"
        ) from error
    if not isinstance(array, zarr.Array) or array.ndim != image.axes.count:
        raise ImageError(
            f"{path} is inconsistent: {image.array!r} is no array with the axes that the folder "
            "speaks of; write it again"
        )
    metadata = image.metadata if _describes(image.metadata) else _beside(path, image.metadata)
    return ZarrSource(path, array, image.axes, metadata, cache_bytes, threads)


def _describes(metadata: ImageMetadata) -> bool:
    """Return whether there is anything that a reader could want to know."""
    return metadata != ImageMetadata(name=metadata.name)


def _beside(path: Path, otherwise: ImageMetadata) -> ImageMetadata:
    """Return what the OME-XML says that bfio and bioformats2raw put into the folder."""
    try:
        xml = (path / "OME" / "METADATA.ome.xml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return otherwise
    ome = parse_ome(xml, path)
    return otherwise if ome is None else ImageMetadata.from_ome(ome)


def _open_group(path: Path) -> zarr.Group:
    try:
        node = zarr.open(str(path), mode="r")
    except ZARR_DAMAGE as error:
        raise ImageError(
            f"{path} cannot be opened as OME-Zarr: {error}; copy or write it again"
        ) from error
    if isinstance(node, zarr.Array):
        raise ImageError(
            f"{path} is a Zarr array without the group around it that OME-Zarr asks for: write it "
            "as OME-Zarr, or give the folder that it lies in"
        )
    return node


def _ngff(group: zarr.Group) -> tuple[Mapping[str, Any], NgffVersion]:
    """Return the attributes that OME-NGFF speaks of, and the version that has them there."""
    attributes = group.attrs.asdict()
    if group.metadata.zarr_format == 2:
        return attributes, "0.4"
    ome = attributes.get("ome")
    return (ome if isinstance(ome, Mapping) else {}), "0.5"


def _only_series(path: Path, group: zarr.Group) -> zarr.Group:
    """Return the image of a folder that bioformats2raw made, which numbers them from 0."""
    try:
        series = [int(name) for name, _ in group.groups() if name.isdecimal()]
        if series == [0]:
            return dict(group.groups())["0"]
    except ZARR_DAMAGE as error:
        raise ImageError(
            f"{path}: its series cannot be listed: {error}; copy or write it again"
        ) from error
    raise ImageError(
        f"{path} holds {len(series)} images, by the layout of bioformats2raw: give each of them as "
        "a folder of its own, by links or copies that end in .ome.zarr"
    )
