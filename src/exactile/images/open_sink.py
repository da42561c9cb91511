"""The kind of image that is written follows from its name: one function knows which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exactile.images.journal import Journal
from exactile.images.ome_tiff_sink import OmeTiffSink
from exactile.images.sink import OutputImage
from exactile.images.storing_sink import StoringSink
from exactile.images.zarr_layout import is_zarr_name


def open_sink(
    path: Path, image: OutputImage, threads: int = 1, journal: Journal | None = None
) -> StoringSink[Any]:
    """Return the sink for `path`: OME-Zarr where the name ends in .zarr, and else OME-TIFF.

    `threads` compress; `journal` is that of `path`, or None where nothing outlives a failure.

    Raises OutputError where the folder is missing or not writable, or something else has the name,
    and ValueError for a dtype that is not written.
    """
    if is_zarr_name(path.name):
        # zarr takes time to import, which TIFF files need not wait for.
        from exactile.images.zarr_sink import ZarrSink

        return ZarrSink(path, image, threads, journal)
    return OmeTiffSink(path, image, threads, journal)
