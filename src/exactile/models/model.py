"""A network that is ready to run: what its file declares, completed by what tracing shows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from torch import nn

from exactile.errors import ModelError
from exactile.finishing import Finishing, default_finishing
from exactile.geometry import PLANES, VOLUMES, Locality
from exactile.locality import Analysis, NotLocal, Refusal, analyze
from exactile.models.formats.fixed_size import explain_fixed_size
from exactile.models.network_file import NetworkFile
from exactile.models.whole_extent import without_locality
from exactile.processing import Before, ZScore

USUAL_CHANNELS = (1, 3, 2, 4)
"""Tried in this order where a file does not say how many channels its network takes."""


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode with all that a run needs to know about it."""

    file: NetworkFile
    channels: int
    """Input channels."""
    classes: tuple[str, ...]
    """Names of the output channels."""
    before: tuple[Before, ...]
    """From the image to the network's input."""
    assumed: bool
    """`before` is the usual z-score, because neither the file nor the user says anything."""
    finishing: Finishing
    """From the network's output to labels and probabilities."""
    analysis: Analysis
    """Of a network without locality, what stands for it (`whole_extent`)."""
    refused: NotLocal | None = None
    """Why the network has no locality and is only run by exchange; None where it has one."""

    @property
    def name(self) -> str:
        """The model's name, for people."""
        return self.file.name

    @property
    def network(self) -> nn.Module:
        """Maps (N, channels, *extent) float32 to one tensor (N, classes, *extent)."""
        return self.file.network

    @property
    def locality(self) -> Locality:
        """F, halo, scale and crop on every spatial axis."""
        return self.analysis.locality

    @property
    def dimensions(self) -> int:
        """Spatial axes: 2 for planes, 3 for volumes."""
        return len(self.locality.axes)


def complete(
    file: NetworkFile, before: tuple[Before, ...] | None = None, *, exchange: bool = False
) -> Model:
    """Return the model in `file`, traced; `before` is the user's word on how images are normalised.

    With `exchange`, a network without locality is taken as well, and `refused` says so.

    Raises:
        NotLocal: if the network cannot be run in exact tiles: also where its output cannot be
            placed, and where its export takes one size only.
        ModelError: if it cannot be run at all, or if `before` contradicts the file.
    """
    if before is not None and file.before is not None:
        raise ModelError(
            f"{file.name} says itself how its images are normalised; leave out --normalization"
        )
    channels, analysis, refused = _trace(file, exchange)
    if not analysis.outputs:
        raise _refusal(file, "it returns no channels; export a network with an output")
    if analysis.unplaced:
        raise _refusal(
            file,
            f"where its output lies in the image cannot be told: {analysis.unplaced}; give it "
            "padding that keeps the size, or crops that are alike on both sides",
        )
    if file.classes is not None and len(file.classes) != analysis.outputs:
        raise ModelError(
            f"{file.name}: names {len(file.classes)} classes, but its network returns "
            f"{analysis.outputs} channels; correct the description"
        )
    declared = before if file.before is None else file.before
    return Model(
        file=file,
        channels=channels,
        classes=file.classes or tuple(f"class {index}" for index in range(analysis.outputs)),
        before=(ZScore(),) if declared is None else declared,
        assumed=declared is None,
        finishing=(
            default_finishing(analysis.outputs, analysis.last)
            if file.after is None
            else Finishing(file.after)
        ),
        analysis=analysis,
        refused=refused,
    )


def _refusal(file: NetworkFile, reason: str) -> NotLocal:
    """Return the refusal of a network as a whole."""
    return NotLocal((Refusal("the network", file.name, reason),))


def _trace(file: NetworkFile, exchange: bool) -> tuple[int, Analysis, NotLocal | None]:
    """Return the number of channels and the analysis, trying the usual numbers where needed.

    With `exchange`, that of a network without locality is what stands for it; why comes with it.
    """
    counts = USUAL_CHANNELS if file.channels is None else (file.channels,)
    sizes = (PLANES, VOLUMES) if file.dimensions is None else (file.dimensions,)
    failures = []
    for dimensions, channels in product(sizes, counts):
        try:
            return channels, analyze(file.network, channels, dimensions), None
        except ModelError as error:
            fixed = explain_fixed_size(file.network, channels, dimensions)
            if fixed is not None:
                raise _refusal(file, f"{fixed}; export it again with dynamic sizes") from error
            if isinstance(error, NotLocal):
                if not exchange:
                    raise
                found = without_locality(file.network, channels, dimensions, error)
                return channels, found, error
            failures.append(error)
    if len(failures) == 1:
        raise ModelError(f"{file.name}: {failures[0]}") from failures[0]
    raise ModelError(
        f"{file.name}: does not say how many channels it takes, and does not run on "
        f"{', '.join(map(str, counts))}: {failures[0]}"
    ) from failures[0]
