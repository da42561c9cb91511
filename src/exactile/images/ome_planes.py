"""What the OME-XML of a TIFF says of where the planes of its images are.

An image has Z x C x T planes; elements `TiffData` say which page of which file holds which of them.
They are read as Bio-Formats reads them, whose format it is: a block without a number of planes goes
on until the next one begins; an image without any block has its planes in the order of the pages;
first positions may count from 1. What is left open, or said twice, is an error: no page is guessed.

    <TiffData IFD="0" FirstC="1" PlaneCount="2"><UUID FileName="b.ome.tif">urn:uuid:1</UUID>
     -> pages 0 and 1 of b.ome.tif are the planes from C=1 on, in the order of the dimensions
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import PurePosixPath
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from exactile.images.tiff_directories import MOST_PAGES


class OmeError(ValueError):
    """OME-XML that does not say what it has to; the message says what is wrong with it."""

    unreadable = False
    """Whether nothing in it can be read."""


class UnreadableOmeError(OmeError):
    """OME-XML that is no XML, has no image, or lacks what every image has."""

    unreadable = True


@dataclass(frozen=True, slots=True)
class FileMark:
    """How OME-XML refers to a file; both are empty for the file that it lies in."""

    uuid: str = ""
    name: str = ""
    """Without folders: what lies elsewhere is never looked for."""


@dataclass(frozen=True, slots=True)
class Block:
    """A run of pages that are planes, in the order of the dimensions."""

    first: tuple[int, int, int]
    """Position of the first plane: Z, C, T."""
    page: int
    """The page of the first plane."""
    count: int | None
    """Number of planes; None to go on until another block begins."""
    mark: FileMark


@dataclass(frozen=True, slots=True)
class OmeImage:
    """An image that OME-XML describes."""

    name: str
    sizes: tuple[int, int, int]
    """Z, C, T; samples of one pixel count as channels."""
    order: str
    """Letters of Z, C and T, of which the first varies fastest."""
    shape: tuple[int, int]
    """Height and width (Y, X)."""
    samples: tuple[int, ...]
    """Samples of each channel, where it says so."""
    blocks: tuple[Block, ...]

    def channels(self, samples: int) -> int:
        """Return how many pages the channels of one plane take, `samples` of them in each.

        Raises OmeError where they do not come out even.
        """
        size_c = self.sizes[1]
        if size_c % samples == 0 and len(set(self.samples)) <= 1:
            return size_c // samples
        if len(self.samples) == size_c and set(self.samples) == {samples}:
            return size_c  # some writers do not count samples as channels
        said = "+".join(map(str, self.samples)) or "unknown"
        raise OmeError(
            f"SizeC is {size_c}, of channels of {said} samples, and pages have {samples}"
        )

    def places(self, samples: int) -> NDArray[np.int64]:
        """Return by (T, Z, C) the number of the block and the page of each plane: (..., 2).

        The block is -1 in an image without any: its pages are those of its own file. Raises
        OmeError where a plane has no page, or two have the same.
        """
        z, _, t = self.sizes
        sizes = dict(zip("ZCT", (z, self.channels(samples), t), strict=True))
        steps = [sizes[axis] for axis in self.order]
        if prod(steps) > MOST_PAGES:
            raise OmeError(f"it has {prod(steps)} planes, more than files have pages")
        found = np.full((prod(steps), 2), -1, np.int64)
        if not self.blocks:
            found[:, 1] = np.arange(len(found))
        self._fill(found, steps)
        missing = np.flatnonzero(found[:, 1] < 0)
        if len(missing):
            raise OmeError(f"it names no page for {len(missing)} of {len(found)} planes")
        marks = [(self.blocks[b].mark if b >= 0 else None, page) for b, page in found.tolist()]
        if len(set(marks)) < len(marks):
            raise OmeError("it names the same page for several planes")
        by_axis = found.reshape(*reversed(steps), 2)
        axes = list(reversed(self.order))
        return by_axis.transpose([*(axes.index(axis) for axis in "TZC"), 3])

    def _fill(self, found: NDArray[np.int64], steps: Sequence[int]) -> None:
        certain = np.zeros(len(found), bool)
        least = [min((b.first[i] for b in self.blocks), default=0) for i in range(3)]
        from_one = max(least) <= 1 and any(
            block.first["ZCT".index(axis)] >= step
            for block in self.blocks
            for axis, step in zip(self.order, steps, strict=True)
        )
        for number, block in enumerate(self.blocks):
            start = [f - low if from_one else f for f, low in zip(block.first, least, strict=True)]
            position = [start["ZCT".index(axis)] for axis in self.order]
            if any(at >= step for at, step in zip(position, steps, strict=True)):
                raise OmeError(f"it places a plane at Z, C, T = {block.first}, beyond its sizes")
            at = int(np.ravel_multi_index(position, steps, order="F"))
            stop = len(found) if block.count is None else at + block.count
            if stop > len(found):
                raise OmeError(f"it lists {stop - len(found)} planes more than its sizes have")
            if block.count is None:
                later = np.flatnonzero(certain[at + 1 :])
                stop = at + 1 + int(later[0]) if len(later) else stop
            found[at:stop, 0] = number
            found[at:stop, 1] = np.arange(block.page, block.page + stop - at)
            certain[at : stop if block.count is not None else at + 1] = True


@dataclass(frozen=True, slots=True)
class OmeDocument:
    """The OME-XML of a file."""

    mark: str
    """What it calls the file that it lies in, a UUID; '' where it does not."""
    images: tuple[OmeImage, ...]
    companion: str
    """The file beside it that describes the images in its place; '' if none."""


def read_ome(xml: str | bytes) -> OmeDocument:
    """Return what OME-XML of any schema says of planes. Raises UnreadableOmeError."""
    if (b"<!DOCTYPE" if isinstance(xml, bytes) else "<!DOCTYPE") in xml:  # type: ignore[operator]
        # OME-XML has none; one could name other files, or entities that grow without end.
        raise UnreadableOmeError("it has a document type of its own")
    try:
        root = ElementTree.fromstring(xml)
        images = tuple(_images(root))
        companion = ""
        for element in _children(root, "BinaryOnly"):
            companion = _file_name(element.get("MetadataFile", ""))
    except (ElementTree.ParseError, ValueError, KeyError, RecursionError) as error:
        raise UnreadableOmeError(f"it cannot be read ({error})") from error
    if not images and not companion:
        raise UnreadableOmeError("it has no image")
    return OmeDocument(root.get("UUID", ""), images, companion)


def is_ome(text: str) -> bool:
    """Return whether the description of a page looks like OME-XML."""
    head = text.lstrip("\ufeff \t\r\n")[:4096]
    return head.startswith("<") and ("<OME" in head or ":OME" in head)


def _images(root: ElementTree.Element) -> Iterator[OmeImage]:
    for element in _children(root, "Image"):
        for pixels in _children(element, "Pixels"):
            yield _image(element.get("Name", ""), pixels)


def _image(name: str, pixels: ElementTree.Element) -> OmeImage:
    order = pixels.attrib["DimensionOrder"]
    z, c, t, y, x = (int(pixels.attrib["Size" + axis]) for axis in "ZCTYX")
    if sorted(order) != sorted("XYZCT") or order[:2] != "XY":
        raise ValueError(f"DimensionOrder {order}")
    if min(z, c, t, y, x) < 1:
        raise ValueError(f"sizes Z={z}, C={c}, T={t}, Y={y}, X={x}")
    return OmeImage(
        name=name,
        sizes=(z, c, t),
        order=order[2:],
        shape=(y, x),
        samples=tuple(
            int(channel.attrib["SamplesPerPixel"])
            for channel in _children(pixels, "Channel")
            if "SamplesPerPixel" in channel.attrib
        ),
        blocks=tuple(_block(element) for element in _children(pixels, "TiffData")),
    )


def _block(element: ElementTree.Element) -> Block:
    count = element.get("PlaneCount", element.get("NumPlanes"))
    mark = FileMark()
    for uuid in _children(element, "UUID"):
        mark = FileMark((uuid.text or "").strip(), _file_name(uuid.get("FileName", "")))
    z, c, t = (int(element.get("First" + axis, "0")) for axis in "ZCT")
    page = int(element.get("IFD", "0"))
    if min(z, c, t, page, int(count or 0)) < 0:
        raise ValueError("a negative number in TiffData")
    return Block((z, c, t), page, None if count is None else int(count), mark)


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Yield the children of a name, in whatever namespace."""
    for child in element:
        if isinstance(child.tag, str) and child.tag.rpartition("}")[2] == name:
            yield child


def _file_name(text: str) -> str:
    """Return the last part of a path of any system."""
    return PurePosixPath(text.replace("\\", "/")).name
