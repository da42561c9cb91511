"""The main job: a collection in, a collection out, and a certificate for each image.

For every image: statistics, plan, check of bit-stability, then the pipeline for each plane.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import numpy as np

from exactile.bit_stability import BitStability, check_bit_stability
from exactile.certificate import Certificate, InputRecord, ModelRecord, PlanRecord, claim
from exactile.engine import Engine, choose_device, make_engine
from exactile.errors import CollectionError, ExactileError, ImageError, OutputError, PlanError
from exactile.images import (
    OmeTiffSink,
    OutputImage,
    Source,
    collect,
    open_source,
    output_names,
)
from exactile.models.loading import Model, load_model
from exactile.normalization import Statistics, image_statistics
from exactile.pipeline import NormalizedPlane, network_failed, segment_plane
from exactile.report.progress import Watcher
from exactile.settings import SegmentSettings
from exactile.tiling import Plan, auto_tile, least_tile, plan

logger = logging.getLogger(__name__)

PREVIEW_NAME = "preview.json"


@dataclass(frozen=True)
class ImageResult:
    """How one image went."""

    path: Path
    """The input."""
    pixels: int
    """Pixels segmented, over all planes."""
    seconds: float
    certificate: Certificate | None
    """None where the image failed."""
    error: str
    """Empty, or why the image failed."""


@dataclass
class Job:
    """What all images of a run have in common."""

    settings: SegmentSettings
    model: Model
    engine: Engine
    tile: int
    """Side of the windows in pixels."""
    checked: dict[tuple[int, ...], BitStability] = field(default_factory=dict)
    """What the check found, by window and extent, so that it runs once for each."""

    def bit_stability(self, tiling: Plan, path: Path) -> BitStability:
        """Return what the check finds for windows of `tiling`; it runs once for each shape.

        Raises:
            NetworkError: if the network cannot be run on such windows, needed for image `path`.
        """
        key = tiling.window + tiling.extent
        if key not in self.checked:
            try:
                found = check_bit_stability(self.engine, tiling, self.model.channels)
            except (RuntimeError, MemoryError) as error:
                raise network_failed(path, "the check of bit-stability", tiling, error) from error
            logger.log(logging.INFO if found.equal else logging.WARNING, "%s", found.sentence())
            self.checked[key] = found
        return self.checked[key]


def make_job(settings: SegmentSettings) -> Job:
    """Load the model and choose device and tile size.

    Raises:
        ModelError: if the model cannot be loaded.
        SettingsError: if the device is not there.
        PlanError: if the tile size leaves no zone.
    """
    model = load_model(settings.model)
    engine = make_engine(model.network, choose_device(settings.device), settings.precision)
    least = least_tile(model.locality)
    tile = auto_tile(model.locality) if settings.tile_size == "auto" else settings.tile_size
    if tile < least:
        halo = model.locality.halo[0]
        raise PlanError(
            f"--tileSize {tile} is too small for {model.card.name}: its halo is {halo.low} and "
            f"{halo.high} px on the two sides, on a grid of F = {model.locality.alignment[0]} px; "
            f"use at least {least}, or auto"
        )
    logger.info(
        "%s on %s, %s; F %s, halo %s, windows of %d px",
        model.card.name,
        engine.describe(),
        settings.precision,
        " x ".join(map(str, model.locality.alignment)),
        " x ".join(f"({h.low}, {h.high})" for h in model.locality.halo),
        tile,
    )
    return Job(settings, model, engine, tile)


def plan_outputs(settings: SegmentSettings) -> dict[Path, Path]:
    """Return the output's path for each input's; nothing is read but names.

    Raises:
        CollectionError: if there are no images, or results would replace inputs or each other.
    """
    inputs = collect(settings.inp_dir, settings.file_pattern)
    names = output_names(inputs, settings.extension)
    outputs = {path: settings.out_dir / name for path, name in zip(inputs, names, strict=True)}
    folders = {settings.inp_dir, *(path.parent for path in inputs)}
    if settings.out_dir.resolve() in {folder.resolve() for folder in folders}:
        raise CollectionError(
            f"--outDir {settings.out_dir} is the folder of the images: results would replace "
            "them, or be taken for them; choose another folder"
        )
    return outputs


def write_preview(settings: SegmentSettings) -> Path:
    """Write the names of the results to outDir/preview.json, as WIPP asks, and return its path."""
    names = [path.name for path in plan_outputs(settings).values()]
    _make_folder(settings.out_dir)
    path = settings.out_dir / PREVIEW_NAME
    partial = settings.out_dir / f".{PREVIEW_NAME}.partial"
    content = {"filePattern": settings.file_pattern, "outDir": names}
    try:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def segment_collection(settings: SegmentSettings, watcher: Watcher) -> Iterator[ImageResult]:
    """Segment every image and yield how it went; one that fails does not stop the others.

    Raises:
        ExactileError: if no image could be done at all: settings, model, collection, output folder.
    """
    outputs = plan_outputs(settings)
    job = make_job(settings)
    _make_folder(settings.out_dir)
    for path, output in outputs.items():
        begun = time.monotonic()
        try:
            certificate = segment_image(job, path, output, watcher)
        except ExactileError as error:
            yield ImageResult(path, 0, time.monotonic() - begun, None, str(error))
            continue
        except MemoryError as error:
            text = f"{path}: memory ran out ({error}); use a smaller --tileSize"
            yield ImageResult(path, 0, time.monotonic() - begun, None, text)
            continue
        sizes = certificate.input.dimensions
        pixels = prod(sizes[axis] for axis in "TZYX")
        yield ImageResult(path, pixels, time.monotonic() - begun, certificate, "")


def segment_image(job: Job, path: Path, output: Path, watcher: Watcher) -> Certificate:
    """Segment all planes of one image into `output`, and write its certificate.

    Raises:
        ExactileError: if anything stands in the way; nothing is left under the final name then.
    """
    seconds: dict[str, float] = {}
    with open_source(path) as source:
        channels = choose_channels(source, job.settings.channel, job.model.channels)
        tiling = plan(source.shape, job.model.locality, job.tile)
        with _timed(seconds, "check"):
            stability = job.bit_stability(tiling, path)
        statistics: dict[str, tuple[Statistics, ...]] = {}
        watcher.begin(path.name, len(source.planes) * prod(source.shape))
        with OmeTiffSink(output, _describe_output(source, channels, job)) as sink:
            for plane in source.planes:
                with _timed(seconds, "statistics"):
                    found = tuple(image_statistics(source, plane, c) for c in channels)
                statistics[f"t={plane.t} z={plane.z}"] = found
                image = NormalizedPlane(source, plane, channels, found)
                with _timed(seconds, "segmentation"):
                    segment_plane(
                        image, tiling, job.engine, job.settings.output_type, sink, watcher.advance
                    )
            record = InputRecord(
                name=path.name,
                bytes=path.stat().st_size,
                dimensions={
                    "T": source.size_t,
                    "C": source.size_c,
                    "Z": source.size_z,
                    "Y": source.shape[0],
                    "X": source.shape[1],
                },
                dtype=str(source.dtype),
                channels=channels,
                statistics=statistics,
            )
            certificate = _certify(job, record, output, tiling, stability, seconds)
            with certificate.beside(output.parent):
                sink.close()
    return certificate


def choose_channels(source: Source, wanted: tuple[int, ...] | None, needed: int) -> tuple[int, ...]:
    """Return the channels of `source` that the network gets: `wanted`, or all of them.

    Raises:
        ImageError: if the image has no such channel, or the network takes another number.
    """
    count = source.size_c
    chosen = tuple(range(count)) if wanted is None else wanted
    absent = [channel for channel in chosen if channel >= count]
    if absent:
        raise ImageError(
            f"{source.path}: has {count} channel{'s' * (count > 1)}, numbered from 0; --channel "
            f"{absent[0]} does not exist"
        )
    if len(chosen) != needed:
        raise ImageError(
            f"{source.path}: {len(chosen)} channels would go to a model that takes {needed}; "
            f"choose with --channel, such as --channel {','.join(map(str, range(needed)))}"
        )
    return chosen


def _describe_output(source: Source, channels: tuple[int, ...], job: Job) -> OutputImage:
    labels = job.settings.output_type == "labels"
    names = source.metadata.channels
    if not labels:
        names = job.model.classes
    elif names:
        names = ("+".join(names[channel] for channel in channels),)
    return OutputImage(
        shape=source.shape,
        dtype=np.dtype(np.uint8 if labels else np.float32),
        size_t=source.size_t,
        size_c=1 if labels else len(job.model.classes),
        size_z=source.size_z,
        metadata=replace(source.metadata, channels=names),
    )


def _certify(
    job: Job,
    record: InputRecord,
    output: Path,
    tiling: Plan,
    stability: BitStability,
    seconds: dict[str, float],
) -> Certificate:
    model = job.model
    return Certificate(
        output=output.name,
        input=record,
        model=ModelRecord(
            name=model.card.name,
            version=model.card.version,
            sha256=model.sha256,
            locality=model.locality,
            proof="the construction of U-Nets, followed operator by operator",
        ),
        settings=job.settings.model_dump(mode="json", by_alias=True),
        plan=PlanRecord(
            window=tiling.window,
            zone=tiling.zone,
            extent=tiling.extent,
            windows=tiling.count,
            computed_ratio=round(tiling.computed_ratio, 4),
        ),
        device=job.engine.describe(),
        bit_stability=stability,
        claim=claim(job.settings.precision, stability),
        seconds={name: round(value, 3) for name, value in seconds.items()},
    )


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    begun = time.monotonic()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.monotonic() - begun


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"--outDir {path}: cannot be made ({error.strerror}); choose a folder you may write to"
        ) from error
    if not os.access(path, os.W_OK):
        raise OutputError(f"--outDir {path}: is not writable; choose another, or permit writing")
