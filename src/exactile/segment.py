"""The main job: a collection in, a collection out, and a certificate for each image.

For the run: the model, its locality traced from the operators and proven on the weights. For every
image: plan, check of bit-stability, statistics, then the pipeline for each plane.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from pathlib import Path

import numpy as np

from exactile.bit_stability import BitStability
from exactile.certificate import (
    Certificate,
    InputRecord,
    ModelRecord,
    PlanRecord,
    StepRecord,
    claim,
)
from exactile.errors import ExactileError, ImageError
from exactile.finishing import label_dtype
from exactile.images import OmeTiffSink, OutputImage, PhysicalSize, Source, open_source
from exactile.job import Job, make_job
from exactile.normalization import describe, fit
from exactile.outputs import make_folder, plan_outputs
from exactile.pipeline import NormalizedPlane, segment_plane
from exactile.report.progress import Watcher
from exactile.settings import SegmentSettings
from exactile.tiling import Plan, plan
from exactile.verification import Verifier, choose_zones


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


def segment_collection(settings: SegmentSettings, watcher: Watcher) -> Iterator[ImageResult]:
    """Segment every image and yield how it went; one that fails does not stop the others.

    Raises:
        ExactileError: if no image could be done at all: settings, model, collection, output folder.
    """
    outputs = plan_outputs(settings)
    job = make_job(settings)
    make_folder(settings.out_dir)
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
        steps: dict[str, tuple[StepRecord, ...]] = {}
        zones = len(source.planes) * tiling.count
        chosen = choose_zones(zones, job.settings.verify, path.name)
        verifier = Verifier(tiling, chosen, stability.equal)
        watcher.begin(path.name, len(source.planes) * prod(tiling.output_shape))
        with OmeTiffSink(output, _describe_output(source, channels, tiling, job)) as sink:
            for plane in source.planes:
                with _timed(seconds, "statistics"):
                    fitted = fit(job.model.before, source, plane, channels)
                steps[f"t={plane.t} z={plane.z}"] = tuple(StepRecord.of(step) for step in fitted)
                image = NormalizedPlane(source, plane, channels, fitted)
                with _timed(seconds, "segmentation"):
                    todo = [tile.zone for tile in tiling.tiles()]
                    segment_plane(image, tiling, todo, job.run, sink, watcher.advance, verifier)
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
                normalization=steps,
            )
            certificate = _certify(job, record, output, tiling, stability, verifier, seconds)
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


def _describe_output(
    source: Source, channels: tuple[int, ...], tiling: Plan, job: Job
) -> OutputImage:
    labels, classes = job.settings.output_type == "labels", job.model.classes
    metadata = source.metadata
    names = metadata.channels
    if not labels:
        names = classes
    elif names:
        names = ("+".join(names[channel] for channel in channels),)
    y, x = (axis.scale for axis in job.model.locality.axes)
    return OutputImage(
        shape=(tiling.output_shape[0], tiling.output_shape[1]),
        dtype=label_dtype(len(classes)) if labels else np.dtype(np.float32),
        size_t=source.size_t,
        size_c=1 if labels else len(classes),
        size_z=source.size_z,
        metadata=replace(
            metadata, channels=names, y=_scaled(metadata.y, y), x=_scaled(metadata.x, x)
        ),
    )


def _scaled(size: PhysicalSize | None, scale: Fraction) -> PhysicalSize | None:
    """Return the size of a pixel of the output, which has `scale` of them for each of the input."""
    return size if size is None else replace(size, value=float(size.value / scale))


def _certify(
    job: Job,
    record: InputRecord,
    output: Path,
    tiling: Plan,
    stability: BitStability,
    verifier: Verifier,
    seconds: dict[str, float],
) -> Certificate:
    model, verification = job.model, verifier.result()
    return Certificate(
        output=output.name,
        input=record,
        model=ModelRecord(
            name=model.name,
            version=model.file.version,
            format=model.file.format,
            sha256=model.file.sha256,
            normalization=describe(model.before) + " (assumed)" * model.assumed,
            finishing=describe(model.finishing.after),
            locality=model.locality,
            operators=model.analysis.operators,
            declared_halo=model.file.declared_halo,
            proof=job.proof,
        ),
        settings=job.settings.model_dump(mode="json", by_alias=True),
        plan=PlanRecord(
            window=tiling.window,
            zone=tiling.zone,
            extent=tiling.extent,
            output_shape=tiling.output_shape,
            windows=tiling.count,
            computed_ratio=round(tiling.computed_ratio, 4),
        ),
        device=job.run.engine.describe(),
        bit_stability=stability,
        verification=verification,
        claim=claim(job.settings.precision, stability, verification),
        seconds={name: round(value, 3) for name, value in seconds.items()},
    )


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    begun = time.monotonic()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.monotonic() - begun
