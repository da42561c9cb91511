"""What a run leaves behind for each image: what was done, with what, and what was checked."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

from exactile.bit_stability import BitStability
from exactile.engine import Agreement, EngineName
from exactile.errors import OutputError
from exactile.geometry import Locality
from exactile.images import OutputImage
from exactile.images.digest import FileDigest
from exactile.images.image_record import image_to_record
from exactile.images.links import fresh, make_own_folder
from exactile.images.work_folder import temporary_name
from exactile.locality.poison import Proof
from exactile.processing import Before
from exactile.real_pixels import RealPixels
from exactile.sharding import Part
from exactile.stored_json import sealed
from exactile.verification import Verification

ENDLESS = 2**53
"""A halo of so many pixels or more stands for the whole extent: no image is as long."""

FOLDER = "certificates"
"""The sub-folder of the output folder that holds the certificates."""

RECORDED_VERSIONS = ("exactile", "torch", "numpy", "bfio", "tifffile", "imagecodecs", "zarr")


@dataclass(frozen=True)
class StepRecord:
    """One step of the normalisation, with its numbers: those measured, where it is fitted."""

    step: str
    numbers: dict[str, Any]

    @classmethod
    def of(cls, step: Before) -> StepRecord:
        """Return the record of `step`."""
        return cls(type(step).__name__, asdict(step))


@dataclass(frozen=True)
class ProofRecord:
    """What poisoning the input outside each zone's dependency showed, on the very weights."""

    zones: dict[str, int]
    """Zones that stayed free of NaN and bit-equal, by place: interior, edge, corner or whole."""
    minimal: tuple[tuple[bool | None, bool | None], ...]
    """By axis, low and high: whether one F less of halo let the poison through; None for none."""
    passes: int

    @classmethod
    def of(cls, proof: Proof) -> ProofRecord:
        """Return the record of `proof`, which holds."""
        places = dict(Counter(zone.place for zone in proof.zones))
        return cls(places, proof.minimal, proof.passes)

    def sentence(self) -> str:
        """Return the finding in words."""
        if not self.passes:
            return "run by exchange, which rests on no locality"
        places = ", ".join(f"{count} {place}" for place, count in self.zones.items())
        sides = [side for axis in self.minimal for side in axis if side is not None]
        least = f"; one F less would be too little on {sum(sides)} of {len(sides)} sides"
        return (
            f"locality proven on the weights: poison around {places} zones did not reach them"
            f"{least if sides else ''} ({self.passes} passes)"
        )


@dataclass(frozen=True)
class InputRecord:
    """The image that was read."""

    name: str
    """The file's; of a mosaic, its stitching vector's."""
    bytes: int
    sha256: str
    """Digest of the file; of a mosaic, of its files' names, places and digests."""
    dimensions: dict[str, int]
    """Sizes by axis: T, C, Z, Y, X."""
    dtype: str
    channels: tuple[int, ...]
    """The channels that the network got."""
    normalization: dict[str, tuple[StepRecord, ...]]
    """The steps of the normalisation with the numbers of the whole image, by plane or volume."""
    series: str = ""
    """Which of the file's images was read, and which were not; empty where formats have but one."""
    filled: str = ""
    """What of its pixels was not stored and counted as background; empty where all was stored."""


@dataclass(frozen=True)
class ModelRecord:
    """The network that was run."""

    name: str
    version: str
    format: str
    sha256: str
    """Digest of the weights."""
    normalization: str
    """From the image to the network's input."""
    output: str
    """Which of the network's several outputs it is; empty where there is one."""
    output_meaning: str
    """What the output is taken for, and why."""
    finishing: str
    """From the network's output to what the model declares as its result."""
    classes: tuple[str, ...]
    """Names of the output's channels, in order."""
    locality: Locality
    """Traced from the operators. In the file, `halo` is null where it is the whole extent."""
    operators: dict[str, int]
    """How often each operator is called in a pass."""
    declared_halo: tuple[int, ...] | None
    """What the model's description declares, where it does; it is not used."""
    proof: ProofRecord


@dataclass(frozen=True)
class PlanRecord:
    """How each plane, or each volume, was split."""

    axes: tuple[str, ...]
    """Names of the spatial axes, in the order of all numbers here and of the locality's axes."""
    window: tuple[int, ...]
    zone: tuple[int, ...]
    extent: tuple[int, ...]
    """The padded size that the network sees."""
    windows: int
    """Forward passes over each plane or volume."""
    output_shape: tuple[int, ...]
    """The size of the output; position p lies at pixel crop.low + p / scale of the image."""
    computed_ratio: float
    """Computed pixels for each pixel of the image."""
    windows_before: tuple[tuple[int, ...], ...]
    """Larger windows that some of the zones were run in, until memory ran out."""
    zones_run: int
    """Zones, over all planes or volumes, that this run made."""
    zones_resumed: int
    """Zones that an earlier run had stored, which this run went on from."""
    strategy: str = "tile"
    """tile, or exchange: then the window is the whole, run in parts that exchange halos."""
    why: str = ""
    """Why exchange was chosen."""
    parts: tuple[int, ...] | None = None
    """By axis, the number of parts of a run by exchange."""


@dataclass(frozen=True)
class PartRecord:
    """What the output is a part of, where it is not the whole image."""

    output: str
    """Name of the whole."""
    t: int
    """Time point of its plane, from 0."""
    z: int
    """Position of its plane in the stack, from 0."""
    rows: tuple[int, int]
    """Rows of writer tiles in the plane: the first, and the one after the last."""
    image: dict[str, Any]
    """Shape, type and metadata of the whole."""

    @classmethod
    def of(cls, part: Part, output: str, whole: OutputImage) -> PartRecord:
        """Return the record of `part` of the image `whole`, which will have the name `output`."""
        rows = (part.rows.start, part.rows.stop)
        return cls(output, part.plane.t, part.plane.z, rows, image_to_record(whole))


@dataclass(frozen=True)
class Certificate:
    """Everything needed to repeat the run, and what its exactness rests on."""

    output: str
    file: FileDigest
    """Of the output."""
    identity: dict[str, Any]
    """All that the bits of the output depend on; a run that is equal in it may skip the image."""
    input: InputRecord
    model: ModelRecord
    settings: dict[str, Any]
    plan: PlanRecord
    device: str
    """What ran the windows, and where."""
    engine: EngineName
    agreement: Agreement | None
    """What comparing the engine with eager PyTorch showed; None for eager PyTorch itself."""
    bit_stability: BitStability
    verification: Verification | None
    """What running zones again in larger windows showed; None where that was not asked for."""
    real_pixels: RealPixels | None
    """What windows of another place and size gave for some zones of this image; None where it is
    one window, or an earlier run had made all zones."""
    claim: str
    """What the result may be said to be, in one sentence; never more than was checked."""
    seconds: dict[str, float]
    part: PartRecord | None = None
    """What the output is a part of; None where it is a whole image."""

    @contextmanager
    def beside(self, out_dir: Path) -> Iterator[None]:
        """Write the certificate beside its image; see `written_beside`."""
        versions = {name: version(name) for name in RECORDED_VERSIONS}
        machine = {"machine": platform.machine(), "python": platform.python_version()}
        content = asdict(self) | {"versions": versions | machine}
        for axis in content["model"]["locality"]["axes"]:
            if axis["halo"]["low"] >= ENDLESS:
                axis["halo"] = None
        with written_beside(out_dir / self.output, content):
            yield


@contextmanager
def written_beside(output: Path, content: Mapping[str, Any]) -> Iterator[None]:
    """Write the certificate of `output` as JSON, sealed, into its sub-folder, around the last step.

    The body gives the image its name. It runs when the certificate is on disk, and only after
    it does the certificate get its own: an error leaves neither without the other.

    Raises:
        OutputError: if it cannot be written; the body has not run then.
    """
    path = certificate_path(output)
    partial = path.with_name(temporary_name(path.name))
    plain = json.loads(json.dumps(content, default=_plain))
    text = json.dumps(sealed(plain), indent=2)
    try:
        with _named_errors(path):
            make_own_folder(path.parent, path.parent.parent)
            fresh(partial).write_text(text + "\n", encoding="utf-8")
        yield
        with _named_errors(path):
            partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink()


def certificate_path(output: Path) -> Path:
    """Return the path of the certificate of the image `output`."""
    return output.parent / FOLDER / f"{output.name}.json"


def _plain(value: Any) -> Any:
    """Return what JSON has no kind for as a number or a text."""
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    return str(value)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: the certificate cannot be written ({error.strerror}); make room or permit "
            "writing in --outDir"
        ) from error


def claim(
    precision: str,
    stability: BitStability,
    verification: Verification | None,
    real_pixels: RealPixels | None = None,
    parts: int = 0,
) -> str:
    """Return what may be said of a result whose run was checked with `stability`.

    `parts` of a run by exchange; 0 for one in tiles.
    """
    if parts == 1:
        return "The output is that of one pass over the whole image, which was run as one part."
    if parts:
        return (
            f"The output is that of one pass over the whole image, computed in {parts} parts that "
            "exchanged their halos, up to rounding: kernels may add in another order in maps of "
            "another size, and sums over the whole extent were added up part by part."
        )
    again = ""
    if verification is not None:
        again = (
            f" {verification.zones} zones were run again in larger windows: "
            f"{verification.different} of {verification.compared} values differed."
        )
    if real_pixels is not None and not real_pixels.different:
        again = (
            f" In {real_pixels.zones} of the image's zones, {real_pixels.compared} values were the "
            "same in windows of another place and size." + again
        )
    if not stability.compared:
        return "The output is that of one pass over the whole image, which fits one window." + again
    if stability.equal:
        return (
            f"The output equals a pass over the whole image bit for bit, in {precision}, wherever "
            "this machine's kernels treat other extents as they treated the two windows that the "
            "check compared." + again
        )
    text = (
        "The output equals a pass over the whole image up to rounding: in the checks, logits "
        f"differed by at most {stability.largest_difference:.1e} of their standard deviation, and "
        f"{stability.labels_different} labels."
    )
    if stability.unknown:
        text += (
            f" Whether {', '.join(stability.unknown)} compute alike in windows of all sizes is not "
            "known."
        )
    return text + again
