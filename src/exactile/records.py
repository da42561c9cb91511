"""What is put down of an image: the description of its output, and its certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from exactile.bit_stability import BitStability
from exactile.certificate import (
    Certificate,
    InputRecord,
    ModelRecord,
    PartRecord,
    PlanRecord,
    StepRecord,
    claim,
)
from exactile.finishing import label_dtype
from exactile.geometry import AXES, AxisLocality
from exactile.images import OutputImage, PhysicalSize, Source
from exactile.images.digest import FileDigest
from exactile.images.metadata import Length
from exactile.images.zarr_layout import DEFAULT_VERSION
from exactile.job import Job
from exactile.models.model import Model
from exactile.normalization import describe
from exactile.preparation import Preparation
from exactile.real_pixels import RealPixels
from exactile.settings import SegmentSettings
from exactile.verification import Verification


@dataclass
class Account:
    """What is known of an image's run besides its files; it grows while the image is segmented."""

    at_hand: Preparation
    """Engine and plan at hand."""
    stability: BitStability
    """The weakest finding of all windows that the image's zones were run in."""
    windows_before: tuple[tuple[int, ...], ...]
    """Larger windows that some of the zones were run in, until memory ran out."""
    zones_run: int = 0
    """Zones that this run made."""
    zones_resumed: int = 0
    """Zones that an earlier run had stored."""


def input_record(
    source: Source,
    digest: FileDigest,
    channels: tuple[int, ...],
    steps: Mapping[str, tuple[StepRecord, ...]],
) -> InputRecord:
    """Return the record of the image that was read; `steps` by plane or volume."""
    y, x = source.shape
    return InputRecord(
        name=source.path.name,
        bytes=digest.bytes,
        sha256=digest.sha256,
        dimensions={"T": source.size_t, "C": source.size_c, "Z": source.size_z, "Y": y, "X": x},
        dtype=str(source.dtype),
        channels=channels,
        normalization=dict(steps),
        series=source.series,
        filled=source.filled,
    )


def describe_output(
    source: Source,
    channels: tuple[int, ...],
    shape: tuple[int, ...],
    model: Model,
    settings: SegmentSettings,
    name: str,
) -> OutputImage:
    """Return shape, type and metadata of what is written for `source` under `name`.

    `shape` is that of each plane or volume of the output, ([Z,] Y, X).
    """
    labels, classes = settings.output_type == "labels", model.classes
    metadata = source.metadata
    names = metadata.channels
    if not labels:
        names = classes
    elif names:
        names = ("+".join(names[channel] for channel in channels),)
    *z, y, x = model.locality.axes
    *stack, height, width = shape
    return OutputImage(
        shape=(height, width),
        dtype=label_dtype(len(classes)) if labels else np.dtype(np.float32),
        size_t=source.size_t,
        size_c=1 if labels else len(classes),
        size_z=stack[0] if stack else source.size_z,
        metadata=replace(
            metadata,
            channels=names,
            z=_scaled(metadata.z, z[0].scale) if z else metadata.z,
            y=_scaled(metadata.y, y.scale),
            x=_scaled(metadata.x, x.scale),
            origin_z=_cropped(metadata.origin_z, metadata.z, z[0]) if z else metadata.origin_z,
            origin_y=_cropped(metadata.origin_y, metadata.y, y),
            origin_x=_cropped(metadata.origin_x, metadata.x, x),
        ),
        labels=label_names(model) if labels else (),
        pyramid=settings.pyramid,
        zarr_version=settings.zarr_version_of(name) or DEFAULT_VERSION,
    )


def label_names(model: Model) -> tuple[str, ...]:
    """Return what the numbers of the labels stand for, from 0."""
    if model.finishing.numbers:
        return ()
    # A single channel is foreground, 1, or not.
    return model.classes if len(model.classes) > 1 else ("background", *model.classes)


def _scaled(size: PhysicalSize | None, scale: Fraction) -> PhysicalSize | None:
    """Return the size of a pixel of the output, which has `scale` of them for each of the input."""
    return size if size is None else replace(size, value=float(size.value / scale))


def _cropped(origin: Length | None, size: PhysicalSize | None, axis: AxisLocality) -> Length | None:
    """Return where the output's first pixel lies, which is not the image's where some are cropped.

    None where the image does not say where it lies, or how large the pixels are that are cropped.
    """
    if origin is None or not axis.crop.low:
        return origin
    if size is None or size.unit != origin.unit:
        return None
    return replace(origin, value=origin.value + axis.crop.low * size.value)


def certify(
    job: Job,
    name: str,
    file: FileDigest,
    identity: Mapping[str, Any],
    record: InputRecord,
    account: Account,
    verification: Verification | None,
    real_pixels: RealPixels | None,
    seconds: Mapping[str, float],
    part: PartRecord | None = None,
) -> Certificate:
    """Return the certificate of the output `name`, which holds `file`."""
    model, engine, tiling = job.model, account.at_hand.engine, account.at_hand.tiling
    parts = account.at_hand.parts
    return Certificate(
        output=name,
        file=file,
        identity=dict(identity),
        input=record,
        model=ModelRecord(
            name=model.name,
            version=model.file.version,
            format=model.file.format,
            sha256=model.file.sha256,
            normalization=describe(model.before) + " (assumed)" * model.assumed,
            output=model.file.output,
            output_meaning=model.reading.sentence(),
            finishing=model.finishing.describe(),
            classes=model.classes,
            locality=model.locality,
            operators=model.analysis.operators,
            declared_halo=model.file.declared_halo,
            proof=job.proof,
        ),
        settings=job.settings.model_dump(mode="json", by_alias=True),
        plan=PlanRecord(
            axes=AXES[-len(tiling.axes) :],
            window=tiling.window,
            zone=tiling.zone,
            extent=tiling.extent,
            output_shape=tiling.output_shape,
            windows=tiling.count,
            computed_ratio=round(tiling.computed_ratio, 4),
            windows_before=account.windows_before,
            zones_run=account.zones_run,
            zones_resumed=account.zones_resumed,
            strategy="tile" if parts is None else "exchange",
            why=account.at_hand.why,
            parts=None if parts is None else parts.mesh,
        ),
        device=engine.describe(),
        engine=engine.name,
        agreement=engine.agreement,
        bit_stability=account.stability,
        verification=verification,
        real_pixels=real_pixels,
        claim=claim(
            job.settings.precision,
            account.stability,
            verification,
            real_pixels,
            0 if parts is None else parts.count,
        ),
        seconds={name: round(value, 3) for name, value in seconds.items()},
        part=part,
    )
