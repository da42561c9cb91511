"""Where the chunks of an OME-Zarr that is written lie; no library of Zarr is needed to know it.

    <name>.ome.zarr/0/<t>/<c>/<z>/<row>/<column>      full resolution, in 0.4
    <name>.ome.zarr/0/c/<t>/<c>/<z>/<row>/<column>    in 0.5
    <name>.ome.zarr/1/...                             half of it, rounded up; and so on

A chunk has 1024 x 1024 pixels of one channel of one plane.
"""

from __future__ import annotations

from typing import Literal

from exactile.images.compression import Form
from exactile.images.source import Plane

NgffVersion = Literal["0.4", "0.5"]

DEFAULT_VERSION: NgffVersion = "0.4"
"""The one that every reader of OME-Zarr knows."""


def is_zarr_name(name: str) -> bool:
    """Return whether an image of this name is written as OME-Zarr."""
    return name.endswith(".zarr")


def chunk_form(version: NgffVersion) -> Form:
    """Return how chunks are compressed."""
    return "blosc" if version == "0.4" else "gzip"


def plane_folder(version: NgffVersion, level: int, plane: Plane, channel: int) -> str:
    """Return the folder of the rows of chunks of one plane's channel, from the image's folder.

    >>> plane_folder("0.5", 0, Plane(t=1, z=2), 0)
    '0/c/1/0/2'
    """
    array = f"{level}/c" if version == "0.5" else str(level)
    return f"{array}/{plane.t}/{channel}/{plane.z}"
