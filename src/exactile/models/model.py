"""A network that is ready to run: what its file declares, completed by what tracing shows."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from exactile.errors import ModelError
from exactile.finishing import Finishing, OutputType, finishing_for
from exactile.geometry import Locality
from exactile.locality import Analysis, KeepsState, NotLocal, Refusal, analyze
from exactile.meaning.reading import Reading
from exactile.models.channels import sizes_of
from exactile.models.formats.fixed_size import explain_fixed_size
from exactile.models.network_file import NetworkFile
from exactile.models.output import doubt, reading_of
from exactile.models.told import NOTHING, Told
from exactile.models.whole_extent import without_locality
from exactile.processing import Before, ZScore


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
    reading: Reading
    """What the network's output is taken for."""
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


def complete(file: NetworkFile, told: Told = NOTHING, *, exchange: bool = False) -> Model:
    """Return the model in `file`, traced; `told` is the user's word on what it leaves open.

    With `exchange`, a network without locality is taken as well, and `refused` says so.

    Raises:
        NotLocal: if the network cannot be run in exact tiles: also where its output cannot be
            placed, and where its export takes one size only.
        ModelError: if it cannot be run at all, if `told` contradicts the file, or if neither says
            how many channels it takes.
    """
    if told.before is not None and file.before is not None:
        raise ModelError(
            f"{file.name} says itself how its images are normalised; leave out --normalization"
        )
    if None not in (told.channels, file.channels) and told.channels != file.channels:
        raise ModelError(
            f"--channels {told.channels}: {file.name} takes {file.channels}, as its file says; "
            "leave --channels out, and choose those of the images with --channel"
        )
    channels, analysis, refused = _trace(file, told.channels or file.channels, exchange)
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
    declared = told.before if file.before is None else file.before
    reading = reading_of(file, told.meaning, channels, analysis)
    return Model(
        file=file,
        channels=channels,
        classes=file.classes or tuple(f"class {index}" for index in range(analysis.outputs)),
        before=(ZScore(),) if declared is None else declared,
        assumed=declared is None,
        reading=reading,
        finishing=(
            Finishing(file.after)
            if file.after
            else finishing_for(reading.meaning, analysis.outputs)
        ),
        analysis=analysis,
        refused=refused,
    )


def check_meaning(model: Model, output_type: OutputType) -> None:
    """See that what is known of the output of `model` is enough to write it as `output_type`.

    Raises:
        ModelError: if it is not.
    """
    said = doubt(model.file, model.reading, model.finishing, len(model.classes), output_type)
    if said:
        raise ModelError(f"{model.name}: {said}")


def _refusal(file: NetworkFile, reason: str) -> NotLocal:
    """Return the refusal of a network as a whole."""
    return NotLocal((Refusal("the network", file.name, reason),))


def _trace(
    file: NetworkFile, channels: int | None, exchange: bool
) -> tuple[int, Analysis, NotLocal | None]:
    """Return the number of channels and the analysis.

    With `exchange`, that of a network without locality is what stands for it; why comes with it.
    """
    failures = []
    for sizes in sizes_of(file.network, channels, file.dimensions):
        size = sizes.dimensions
        for count in sizes.channels:
            try:
                if sizes.running and len(sizes.channels) > 1:
                    raise sizes.ask(file.name)
                return count, analyze(file.network, count, size), None
            except KeepsState as error:
                raise KeepsState(f"{file.name}: {error}") from error
            except ModelError as error:
                fixed = explain_fixed_size(file.network, count, size)
                if fixed is not None:
                    raise _refusal(file, f"{fixed}; export it again with dynamic sizes") from error
                if sizes.running and not isinstance(error, NotLocal):
                    raise
                if isinstance(error, NotLocal):
                    if not exchange:
                        raise
                    return count, without_locality(file.network, count, size, error), error
                failures.append((count, error))
    tried = list(dict.fromkeys(count for count, _ in failures))
    if len(failures) == 1 or channels is not None:
        raise ModelError(f"{file.name}: {failures[0][1]}") from failures[0][1]
    raise ModelError(
        f"{file.name}: does not say how many channels it takes, and does not run on "
        f"{', '.join(map(str, tried))}: {failures[0][1]}; say how many with --channels N"
    ) from failures[0][1]
