"""Certificates read back: by a later run, by `assemble`, by the report.

A certificate is sealed when it is written (`exactile.stored_json`). One that was changed since, or
says something else than certificates say, is none: whoever reads it takes the image for one that
was not made, or refuses the part, and never goes on with half of what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from exactile.bit_stability import BitStability
from exactile.certificate import PartRecord, ProofRecord, StepRecord
from exactile.engine import Agreement
from exactile.geometry import Interval
from exactile.images import OutputImage, Plane
from exactile.images.digest import FileDigest
from exactile.images.image_record import image_from_record
from exactile.real_pixels import RealPixels
from exactile.sharding import Part
from exactile.stored_json import MalformedError, checked, read_sealed
from exactile.verification import Verification

Count = Annotated[int, Field(ge=0, le=2**53)]
Sides = Annotated[tuple[Annotated[int, Field(ge=1, le=2**31)], ...], Field(max_length=3)]


@dataclass(frozen=True)
class Halo:
    """Pixels on the two sides of an axis."""

    low: Count
    high: Count


@dataclass(frozen=True)
class Axis:
    """What a network depends on along one axis."""

    alignment: Annotated[int, Field(ge=1, le=2**31)]
    halo: Halo | None
    """None where it is the whole extent."""
    scale: Annotated[float, Field(gt=0, le=2**16)]
    crop: Halo
    least: Count


@dataclass(frozen=True)
class LocalityFacts:
    """By axis."""

    axes: tuple[Axis, ...]


@dataclass(frozen=True)
class ModelFacts:
    """What is read of the network that was run."""

    name: str
    version: str
    format: str
    sha256: str
    normalization: str
    finishing: str
    classes: tuple[str, ...]
    locality: LocalityFacts
    operators: dict[str, Count]
    proof: ProofRecord


@dataclass(frozen=True)
class Normalized:
    """How the image was normalised."""

    normalization: dict[str, tuple[StepRecord, ...]]
    """The steps with their numbers, by plane or volume."""


@dataclass(frozen=True)
class InputFacts(Normalized):
    """What is read of the image that was segmented."""

    dimensions: dict[str, Annotated[int, Field(ge=1, le=2**31)]]
    dtype: str
    series: str = ""
    """Which image of the file was read; empty in certificates that do not say."""
    filled: str = ""
    """What of it was not stored; empty where all was, or in certificates that do not say."""


@dataclass(frozen=True)
class PlanFacts:
    """What is read of the plan; see `exactile.certificate.PlanRecord`."""

    window: Sides
    zone: Sides
    extent: Sides
    output_shape: Sides
    windows: Count
    computed_ratio: float
    windows_before: tuple[Sides, ...]
    zones_run: Count
    zones_resumed: Count
    parts: Sides | None = None
    strategy: str = "tile"
    why: str = ""


@dataclass(frozen=True)
class SettingsFacts:
    """What is read of the options."""

    precision: str
    shard: str | None


@dataclass(frozen=True)
class Result:
    """What a certificate says of the file that it belongs to."""

    output: str
    file: FileDigest
    identity: dict[str, str]
    input: Normalized
    part: PartRecord | None


@dataclass(frozen=True)
class Run:
    """What a certificate says of the run; it may say more."""

    input: InputFacts
    model: ModelFacts
    settings: SettingsFacts
    plan: PlanFacts
    device: str
    engine: str
    agreement: Agreement | None
    bit_stability: BitStability
    verification: Verification | None
    claim: str
    seconds: dict[str, float]
    versions: dict[str, str]
    real_pixels: RealPixels | None = None


_RESULT, _RUN = TypeAdapter(Result), TypeAdapter(Run)


@dataclass(frozen=True)
class Certified:
    """A certificate."""

    content: Mapping[str, Any]
    """All that it says."""
    result: Result

    @property
    def run(self) -> Run:
        """Return what it says of the run. Raises MalformedError where it says too little."""
        return checked(_RUN, self.content)

    def part(self, shard: int = 0) -> tuple[Part, str, OutputImage] | None:
        """Return what the output is a part of: its place, the whole's name, and what that is.

        None where it is a whole image. `shard` made it, which the certificate does not say.

        Raises:
            MalformedError: if there can be no such part.
        """
        record = self.result.part
        if record is None:
            return None
        image = image_from_record(record.image)
        inside = 0 <= record.t < image.size_t and 0 <= record.z < image.size_z
        start, stop = record.rows
        if not inside or not 0 <= start < stop <= image.shape[0]:
            raise MalformedError("part: lies outside its image")
        if Path(record.output).name != record.output:
            raise MalformedError("part.output: is no file's name")
        part = Part(self.result.output, Plane(record.t, record.z), Interval(start, stop), shard)
        return part, record.output, image


def read_certificate(path: Path) -> Certified:
    """Return the certificate in the file `path`.

    Raises:
        OSError: if it cannot be read.
        MalformedError: if it is no certificate, or not as it was written.
    """
    content = read_sealed(path)
    return Certified(content, checked(_RESULT, content))
