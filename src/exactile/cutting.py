"""Cuts a mosaic that was segmented back into files of the names and sizes of the input's.

    exactile/mosaics/img-global-positions-1.ome.tif    the segmented mosaic, which stays
    a.ome.tif  b.ome.tif  ...                          what it says where each file lies
    certificates/a.ome.tif.json  ...                   the mosaic's certificate, and the place

Where files overlap, each gets the same pixels of the one result.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from exactile.certificate import certificate_path, written_beside
from exactile.certified import read_certificate
from exactile.errors import ImageError, ModelError
from exactile.finished import is_finished
from exactile.geometry import Box
from exactile.identity import facts_of_container
from exactile.images import MosaicSource, OutputImage, Source, open_sink, open_source, read_mosaic
from exactile.images.grid import cell, cells_over
from exactile.images.mosaic_source import PlacedFile
from exactile.images.storing_sink import TILE_SIDE
from exactile.job import Job
from exactile.models.model import Model
from exactile.outputs import cut_path
from exactile.records import label_names
from exactile.stored_json import MalformedError


def check_cuttable(model: Model) -> None:
    """See that the output of `model` has a position for each pixel of the image.

    Raises:
        ModelError: if it does not.
    """
    for axis in model.locality.axes:
        if axis.scale != 1 or axis.crop.total:
            raise ModelError(
                f"--mosaicOutput files needs an output as large as the image, but that of "
                f"{model.name} has {axis.scale} positions for each pixel, without "
                f"{axis.crop.total} px at the ends: use --mosaicOutput image"
            )


def cut_back(job: Job, vector: Path, segmented: Path) -> None:
    """Write the part of `segmented`, the result for the mosaic of `vector`, that each file fills.

    A file that an earlier run has cut from the same result is left as it is.

    Raises:
        ExactileError: if anything cannot be read or written; files that are done stay.
    """
    settings = job.settings
    labels = label_names(job.model) if settings.output_type == "labels" else ()
    certificate = _read_certificate(segmented)
    threads = torch.get_num_threads()
    with (
        MosaicSource(read_mosaic(vector, settings.inp_dir), 0) as mosaic,
        open_source(segmented, job.cache_bytes, threads) as result,
    ):
        if result.shape != mosaic.shape:
            raise ImageError(
                f"{segmented} has the shape {result.shape}, and the mosaic of {vector} "
                f"{mosaic.shape}: its files were replaced while it was segmented; start again"
            )
        for file in mosaic.files:
            y, x = file.box.axes
            place = f"y {y.start} to {y.stop}, x {x.start} to {x.stop} of {segmented.name}"
            output = cut_path(settings, file.path)
            identity = certificate["identity"] | {"the file": file.path.name, "the place": place}
            identity |= facts_of_container(settings, output.name)
            if settings.resume == "false" or not is_finished(output, identity):
                image = replace(
                    _image_of(result, file),
                    labels=labels,
                    pyramid=settings.pyramid,
                    zarr_version=settings.zarr_version,
                )
                _cut(result, file, image, output, certificate | {"identity": identity})


def _read_certificate(segmented: Path) -> dict[str, Any]:
    path = certificate_path(segmented)
    try:
        return dict(read_certificate(path).content)
    except (OSError, MalformedError) as error:
        raise ImageError(f"{path} cannot be read ({error}): start again") from error


def _image_of(result: Source, file: PlacedFile) -> OutputImage:
    """Return what is written for `file`: pixels as those of `result`, and its own metadata."""
    with open_source(file.path) as original:
        own = original.metadata
    y, x = file.box.shape
    return OutputImage(
        shape=(y, x),
        dtype=result.dtype,
        size_t=result.size_t,
        size_c=result.size_c,
        size_z=result.size_z,
        metadata=replace(own, channels=result.metadata.channels),
    )


def _cut(
    result: Source,
    file: PlacedFile,
    image: OutputImage,
    output: Path,
    certificate: dict[str, Any],
) -> None:
    """Write `output`, and a certificate that is that of the mosaic but for what is given."""
    channels = tuple(range(result.size_c))
    tile = (TILE_SIDE, TILE_SIDE)
    with open_sink(output, image) as sink:
        for plane in image.planes:
            for row, column in cells_over(Box.of_shape(image.shape), tile):
                box = cell(image.shape, tile, row, column)
                sink.write(plane, box, result.read(plane, channels, box.shift(file.box.start)))
        digest = sink.assemble()
        facts = {"output": output.name, "file": asdict(digest)}
        with written_beside(output, certificate | facts):
            sink.close()
