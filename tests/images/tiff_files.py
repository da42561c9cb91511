"""TIFF files with descriptions of their own, written page by page."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from exactile.geometry import Box
from exactile.images import open_source

Pixels = NDArray[Any]
SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def noise(*shape: int, dtype: str = "uint16") -> Pixels:
    """Pixels that differ from plane to plane."""
    return np.random.default_rng(5).integers(0, 250, shape).astype(dtype)


def write_pages(path: Path, pages: Iterable[Pixels], text: str = "", **options: Any) -> Path:
    """Write pages one after the other, the first of them described by `text`."""
    settings = {"photometric": "minisblack", "metadata": None, **options}
    with tifffile.TiffWriter(path, ome=False) as writer:
        for number, page in enumerate(pages):
            description = text.encode() if text and number == 0 else None
            writer.write(page, description=description, contiguous=False, **settings)
    return path


def ome_image(
    sizes: tuple[int, int, int],
    blocks: str = "<TiffData/>",
    *,
    order: str = "XYZCT",
    shape: tuple[int, int] = (20, 30),
    channels: str = "",
    name: str = "",
    micrometres: float = 0.5,
) -> str:
    """One image of OME-XML, of sizes Z, C, T."""
    z, c, t = sizes
    return (
        f'<Image ID="Image:0" Name="{name}"><Pixels ID="Pixels:0" DimensionOrder="{order}" '
        f'Type="uint16" SizeX="{shape[1]}" SizeY="{shape[0]}" SizeZ="{z}" SizeC="{c}" SizeT="{t}" '
        f'PhysicalSizeX="{micrometres}">{channels}{blocks}</Pixels></Image>'
    )


def ome(*images: str, uuid: str = "") -> str:
    """OME-XML of images."""
    root = f' UUID="{uuid}"' if uuid else ""
    return f'<?xml version="1.0"?><OME xmlns="{SCHEMA}"{root}>{"".join(images)}</OME>'


def block(page: int, uuid: str = "", file: str = "", count: int | None = 1, **first: int) -> str:
    """A run of planes in a file: FirstZ, FirstC and FirstT as given."""
    attributes = "".join(f' First{axis}="{value}"' for axis, value in first.items())
    planes = "" if count is None else f' PlaneCount="{count}"'
    mark = f'<UUID FileName="{file}">{uuid}</UUID>' if uuid or file else ""
    return f'<TiffData IFD="{page}"{attributes}{planes}>{mark}</TiffData>'


def read_all(path: Path) -> Pixels:
    """Everything that the source of a file gives: (T, C, Z, Y, X)."""
    with open_source(path) as source:
        channels = tuple(range(source.size_c))
        box = Box.of_shape(source.shape)
        planes = np.stack([source.read(plane, channels, box) for plane in source.planes])
        sizes = (source.size_t, source.size_z, source.size_c, *source.shape)
        return planes.reshape(sizes).swapaxes(1, 2)


def overwrite_tag(path: Path, name: str, value: int, page: int = 0, code: int = 0) -> None:
    """Make a tag one of a single 32-bit number, and of another code where that is given."""
    with tifffile.TiffFile(path) as tiff:
        tag, order = tiff.pages[page].tags[name], tiff.byteorder
    with path.open("r+b") as file:
        file.seek(tag.offset)
        file.write(struct.pack(order + "HHII", code or tag.code, 4, 1, value))
