"""From a folder to the one image in it, or to why it cannot be read.

Groups are read here (`zarr_nodes`); only the array of full resolution is opened by zarr, after its
document was looked at. Where the documents of both formats of Zarr lie in a folder, they must say
the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zarr

from exactile.errors import ImageError
from exactile.images.metadata import ImageMetadata, parse_ome
from exactile.images.source import DEFAULT_CACHE_BYTES
from exactile.images.zarr_array import StoredArray, look_at_files, open_array
from exactile.images.zarr_axes import NgffError, check_dimension_names
from exactile.images.zarr_codecs import check_array, check_documents
from exactile.images.zarr_documents import DocumentError
from exactile.images.zarr_multiscales import NgffImage, ngff_attributes, parse_attributes
from exactile.images.zarr_nodes import Node, read_nodes
from exactile.images.zarr_source import ZarrSource

logger = logging.getLogger(__name__)

_COLLECTIONS = {
    "plate": "is a plate of many images",
    "well": "is a well of several images",
    "labels": "is a group of label images",
}
"""What groups of several images have among their attributes, and what they are."""

_LAYOUT = "bioformats2raw.layout"

_MOST_XML = 2**28


def is_zarr(path: Path) -> bool:
    """Return whether the folder `path` says that it is a Zarr group or array."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def open_zarr(path: Path, cache_bytes: int = DEFAULT_CACHE_BYTES, threads: int = 1) -> ZarrSource:
    """Return a source for the OME-Zarr folder `path`; see `open_source`.

    A folder of bioformats2raw with a single image is that image. Raises ImageError.
    """
    with _named_errors(path):
        check_documents(path)
        group = path
        nodes = read_nodes(path)
        if any(_LAYOUT in _attributes(path, node) for node in nodes):
            group = _only_series(path)
            nodes = read_nodes(group)
        image = _image(path, nodes)
        stored = _open_array(path, group / image.arrays[0], image)
        check_array(path, stored.array)
        _check_levels(group, image, stored.array)
        for remark in image.remarks:
            logger.warning("%s: %s", path, remark)
        source = ZarrSource(path, stored, image.order, cache_bytes, threads)
        source.series = _said(path, group, image)
        source.describe(image.metadata, _beside(path, source))
        return source


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except DocumentError as error:
        raise ImageError(
            f"{path} cannot be opened as OME-Zarr: {error}; copy or write it again"
        ) from error
    except NgffError as error:
        raise ImageError(
            f"{path} is not an image of OME-Zarr 0.1 to 0.5: it {error}; write it again with a "
            "current writer, or convert it to OME-TIFF"
        ) from error
    except OSError as error:
        raise ImageError(
            f"{path} cannot be opened as OME-Zarr: {error.filename or ''} "
            f"{error.strerror or error}; copy or write it again"
        ) from error


def _attributes(path: Path, node: Node) -> Mapping[str, Any]:
    """Return what OME-NGFF speaks of. Raises ImageError for a plate and its like."""
    if node.kind == "array":
        raise ImageError(
            f"{path} is a Zarr array without the group around it that OME-Zarr asks for: write it "
            "as OME-Zarr, or give the folder that it lies in"
        )
    attributes = ngff_attributes(node.attributes)
    for name, what in _COLLECTIONS.items():
        if name in attributes and not (name == "labels" and "multiscales" in attributes):
            raise ImageError(
                f"{path} {what}, not an image: give the images inside it as folders of their own, "
                "by links or copies that end in .ome.zarr"
            )
    return attributes


def _image(path: Path, nodes: Sequence[Node]) -> NgffImage:
    """Return the image that the documents in a folder describe, all of them the same one."""
    images = [parse_attributes(_attributes(path, node)) for node in nodes]
    first = images[0]
    if any((other.arrays[0], other.order) != (first.arrays[0], first.order) for other in images):
        raise NgffError("is one image by zarr.json, and another by .zattrs")
    return first


def _only_series(path: Path) -> Path:
    """Return the image of a folder that bioformats2raw made, which numbers them from 0."""
    there = {each.name for each in path.iterdir() if each.name.isdecimal() and each.is_dir()}
    names = sorted(there | _listed_series(path), key=lambda name: (len(name), name))
    if len(names) == 1:
        if names[0] not in there:
            raise DocumentError(f"its image {names[0]!r} is not there")
        return path / names[0]
    raise ImageError(
        f"{path} holds {len(names)} images, by the layout of bioformats2raw: give each of them as "
        "a folder of its own, by links or copies that end in .ome.zarr"
    )


def _listed_series(path: Path) -> set[str]:
    """Return the images that the group OME beside them lists, if there is one that does."""
    if not is_zarr(path / "OME"):
        return set()
    listed = [ngff_attributes(node.attributes).get("series") for node in read_nodes(path / "OME")]
    return {str(name) for names in listed if isinstance(names, list) for name in names}


def _open_array(path: Path, folder: Path, image: NgffImage) -> StoredArray:
    """Return the array of full resolution, the same one in each format that describes it."""
    count, name = image.order.count, image.arrays[0]
    try:
        nodes = read_nodes(folder)
        if nodes[0].kind != "array" or len(nodes[0].document.get("shape") or ()) != count:
            raise NgffError(
                f"is inconsistent: {name!r} is no array with the {count} axes that the folder "
                "speaks of"
            )
        arrays = [open_array(node) for node in nodes]
        facts = [(array.shape, array.dtype, array.chunks) for array in arrays]
        if any(fact != facts[0] for fact in facts):
            raise DocumentError("it is another array by zarr.json than by .zarray")
        check_dimension_names(nodes[0].document.get("dimension_names"), image.axes)
        return look_at_files(path, arrays[0], folder)
    except DocumentError as error:
        raise DocumentError(f"its array {name!r} cannot be opened: {error}") from error


def _check_levels(group: Path, image: NgffImage, array: zarr.Array[Any]) -> None:
    """See that no other level is larger: the first is to be that of full resolution."""
    order = image.order
    for name in image.arrays[1:]:
        try:
            shape = read_nodes(group / name)[0].document.get("shape")
        except DocumentError:
            continue  # a level that is not there is not missed
        if not isinstance(shape, list) or len(shape) != order.count:
            continue
        sides = [(shape[axis], array.shape[axis]) for axis in (order.y, order.x)]
        if any(isinstance(there, int) and there > here for there, here in sides):
            raise NgffError(
                f"lists {name!r} after {image.arrays[0]!r}, which is smaller: the first of its "
                "arrays is to be that of full resolution"
            )


def _said(path: Path, group: Path, image: NgffImage) -> str:
    """Return which of the arrays is read, and which are not, in words."""
    inside = "" if group == path else f"{group.name}/"
    read, *levels = (repr(f"{inside}{name}") for name in image.arrays)
    others = [*levels, *(f"{image.others} more in `multiscales`" for _ in range(image.others > 0))]
    said = f"1 of {1 + image.others}: array {read}"
    return said + (f"; not read: {', '.join(others)}" if others else "")


def _beside(path: Path, source: ZarrSource) -> ImageMetadata:
    """Return what the OME-XML says that bfio and bioformats2raw put into the folder."""
    file = path / "OME" / "METADATA.ome.xml"
    try:
        if not file.is_file() or file.stat().st_size > _MOST_XML:
            return ImageMetadata()
        xml = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read and is ignored: %s", file, error)
        return ImageMetadata()
    ome = parse_ome(xml, path)
    if ome is None:
        return ImageMetadata()
    pixels = ome.images[0].pixels
    said = (pixels.size_t, pixels.size_c, pixels.size_z, pixels.size_y, pixels.size_x)
    sizes = (source.size_t, source.size_c, source.size_z, *source.shape)
    if said != sizes:
        logger.warning(
            "%s speaks of an image of (T, C, Z, Y, X) = %s, which has %s, and is ignored",
            file,
            said,
            sizes,
        )
        return ImageMetadata()
    return ImageMetadata.from_ome(ome)
