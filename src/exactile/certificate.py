"""What a run leaves behind for each image: what was done, with what, and what was checked."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from exactile.bit_stability import BitStability
from exactile.errors import OutputError
from exactile.geometry import Locality
from exactile.normalization import Statistics

FOLDER = "certificates"
"""The sub-folder of the output folder that holds the certificates."""

RECORDED_VERSIONS = ("exactile", "torch", "numpy", "bfio", "tifffile", "imagecodecs")


@dataclass(frozen=True)
class InputRecord:
    """The image that was read."""

    name: str
    bytes: int
    dimensions: dict[str, int]
    """Sizes by axis: T, C, Z, Y, X."""
    dtype: str
    channels: tuple[int, ...]
    """The channels that the network got."""
    statistics: dict[str, tuple[Statistics, ...]]
    """Mean and deviation of each channel, by plane."""


@dataclass(frozen=True)
class ModelRecord:
    """The network that was run."""

    name: str
    version: str
    sha256: str
    """Digest of the weights."""
    locality: Locality
    proof: str
    """Where the locality comes from."""


@dataclass(frozen=True)
class PlanRecord:
    """How the image was split."""

    window: tuple[int, ...]
    zone: tuple[int, ...]
    extent: tuple[int, ...]
    """The padded size that the network sees."""
    windows: int
    """Forward passes over each plane."""
    computed_ratio: float
    """Computed pixels for each pixel of the image."""


@dataclass(frozen=True)
class Certificate:
    """Everything needed to repeat the run, and what its exactness rests on."""

    output: str
    input: InputRecord
    model: ModelRecord
    settings: dict[str, Any]
    plan: PlanRecord
    device: str
    bit_stability: BitStability
    claim: str
    """What the result may be said to be, in one sentence; never more than was checked."""
    seconds: dict[str, float]

    @contextmanager
    def beside(self, out_dir: Path) -> Iterator[None]:
        """Write the certificate as JSON into its sub-folder of `out_dir`, around the last step.

        The body gives the image its name. It runs when the certificate is on disk, and only after
        it does the certificate get its own: an error leaves neither without the other.

        Raises:
            OutputError: if it cannot be written; the body has not run then.
        """
        path = out_dir / FOLDER / f"{self.output}.json"
        partial = path.with_name(path.name + ".partial")
        versions = {name: version(name) for name in RECORDED_VERSIONS}
        machine = {"machine": platform.machine(), "python": platform.python_version()}
        text = json.dumps(asdict(self) | {"versions": versions | machine}, indent=2, default=str)
        try:
            with _named_errors(path):
                path.parent.mkdir(exist_ok=True)
                partial.write_text(text + "\n", encoding="utf-8")
            yield
            with _named_errors(path):
                partial.replace(path)
        finally:
            with suppress(OSError):
                partial.unlink()


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: the certificate cannot be written ({error.strerror}); make room or permit "
            "writing in --outDir"
        ) from error


def claim(precision: str, stability: BitStability) -> str:
    """Return what may be said of a result whose run was checked with `stability`."""
    if not stability.compared:
        return "The output is that of one pass over the whole image, which fits one window."
    if stability.equal:
        return (
            f"The output equals a pass over the whole image bit for bit, in {precision}, wherever "
            "this machine's kernels treat other extents as they treated the two windows that the "
            "check compared."
        )
    return (
        "The output equals a pass over the whole image up to rounding: in the check, logits "
        f"differed by at most {stability.largest_difference:.1e} of their standard deviation, and "
        f"{stability.labels_different} labels."
    )
