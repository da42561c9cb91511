"""A network that is run partitioned: with the locality that tiling needs, or without one.

The image is padded to multiples of F, which is where the two differ. A network with a locality has
it from there, so that the result is that of `exactile segment`. Of one without, F is the least
common multiple of its strides: how much shorter than the image, along an axis, its feature maps
are; maps that do not grow with the image do not count. Such a network must return as many positions
as it is given.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import lcm

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from exactile.errors import ImageError, ModelError
from exactile.finishing import Finishing, default_finishing
from exactile.geometry import PLANES, VOLUMES, Locality, ceil_to
from exactile.locality import NotLocal
from exactile.locality.modulepath import evaluation
from exactile.locality.run import RUN_ERRORS, Run, quiet_logs
from exactile.locality.scriptpath import named
from exactile.locality.search import TRIAL_EXTENTS, attempt
from exactile.models.loading import open_model
from exactile.models.model import USUAL_CHANNELS, complete
from exactile.models.network_file import NetworkFile
from exactile.processing import Before, ZScore
from exactile.settings import SegmentSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """A network in evaluation mode, and what a run needs to know of it."""

    file: NetworkFile
    channels: int
    """Input channels."""
    dimensions: int
    """2 for planes, 3 for volumes."""
    classes: tuple[str, ...]
    """Names of the output channels."""
    before: tuple[Before, ...]
    """From the image to the network's input."""
    assumed: bool
    """`before` is the usual z-score, because neither the file nor the user says anything."""
    finishing: Finishing
    """From the network's output to labels and probabilities."""
    alignment: tuple[int, ...]
    """F on every axis: what the image is padded to multiples of."""
    locality: Locality | None
    """Where the output lies; None for a network without, whose output lies on the image."""

    def pad(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return `shape` rounded up to multiples of F."""
        return tuple(ceil_to(side, step) for side, step in zip(shape, self.alignment, strict=True))

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the size of the output for an image of `shape`."""
        return shape if self.locality is None else self.locality.output_shape(shape)

    def check_extent(self, extent: tuple[int, ...], path: object) -> None:
        """See that the network runs on a padded image of `extent`; nothing is computed.

        Raises:
            ImageError: if it does not, or returns another size.
        """
        try:
            with torch.no_grad(), quiet_logs(), FakeTensorMode(allow_non_fake_inputs=True):
                output = self.file.network(torch.empty((1, self.channels, *extent)))
        except RUN_ERRORS as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise ImageError(
                f"{path}: {self.file.name} does not run on an image padded to {_words(extent)} px, "
                f"multiples of F = {_words(self.alignment)}: {said}"
            ) from error
        shape = tuple(map(int, output.shape[2:])) if isinstance(output, Tensor) else ()
        if self.locality is None and shape != extent:
            raise ImageError(
                f"{path}: {self.file.name} returns {_words(shape)} positions for {_words(extent)} "
                "px; without a locality, where they lie is known only if there are as many"
            )


def load_network(settings: SegmentSettings) -> Network:
    """Load the network that `settings` name.

    Raises:
        ModelError: if it cannot be loaded or run, or returns another size than it is given.
    """
    file, before = open_model(settings.model), settings.normalization
    if isinstance(file.network, torch.jit.ScriptModule):
        raise ModelError(
            f"{settings.model}: TorchScript runs past the rules of partitioning; give the network "
            "as a card, a torch.export program (.pt2) or ONNX"
        )
    try:
        model = complete(file, before)
    except NotLocal as verdict:
        logger.info("%s: has no locality, which is not needed here: %s", file.name, verdict)
        return _without_locality(file, before)
    return Network(
        file=file,
        channels=model.channels,
        dimensions=model.dimensions,
        classes=model.classes,
        before=model.before,
        assumed=model.assumed,
        finishing=model.finishing,
        alignment=model.locality.alignment,
        locality=model.locality,
    )


def _without_locality(file: NetworkFile, before: tuple[Before, ...] | None) -> Network:
    counts = USUAL_CHANNELS if file.channels is None else (file.channels,)
    sizes = (PLANES, VOLUMES) if file.dimensions is None else (file.dimensions,)
    for dimensions, channels in product(sizes, counts):
        pairs = _trial_runs(file.network, channels, dimensions)
        if pairs is not None:
            break
    else:
        raise ModelError(
            f"{file.name}: runs on none of the sizes tried; export it with dynamic sizes"
        )
    shape, last = pairs[0][0].shape, pairs[0][0].last
    if shape is None or len(shape) != dimensions + 2:
        raise ModelError(
            f"{file.name}: what it returns cannot be told without values; it has to return one "
            "tensor (N, classes, [Z,] Y, X)"
        )
    if shape[2:] != pairs[0][0].extent:
        raise ModelError(
            f"{file.name}: has no locality and returns {_words(shape[2:])} positions for "
            f"{_words(pairs[0][0].extent)} px; without a locality, where they lie is known only "
            "if there are as many"
        )
    outputs = shape[1]
    if file.classes is not None and len(file.classes) != outputs:
        raise ModelError(
            f"{file.name}: names {len(file.classes)} classes, but its network returns {outputs} "
            "channels; correct the description"
        )
    declared = before if file.before is None else file.before
    return Network(
        file=file,
        channels=channels,
        dimensions=dimensions,
        classes=file.classes or tuple(f"class {index}" for index in range(outputs)),
        before=(ZScore(),) if declared is None else declared,
        assumed=declared is None,
        finishing=(
            default_finishing(outputs, last) if file.after is None else Finishing(file.after)
        ),
        alignment=tuple(
            _alignment(small, large, axis) for axis, (small, large) in enumerate(pairs)
        ),
        locality=None,
    )


def _trial_runs(network: nn.Module, channels: int, dimensions: int) -> list[tuple[Run, Run]] | None:
    """Return for each axis a run, and one on twice as many positions along it; None if none do."""
    with evaluation(network), named(network):
        for side in TRIAL_EXTENTS:
            extent = (side,) * dimensions
            small = attempt(network, channels, extent, 0)
            if not isinstance(small, Run):
                continue
            longer = [
                attempt(network, channels, (*extent[:axis], 2 * side, *extent[axis + 1 :]), 0)
                for axis in range(dimensions)
            ]
            pairs = [(small, large) for large in longer if isinstance(large, Run)]
            if len(pairs) == dimensions:
                return pairs
    return None


def _alignment(small: Run, large: Run, axis: int) -> int:
    """Return the least common multiple of the strides along `axis`, by which the runs differ."""
    more = large.extent[axis] - small.extent[axis]
    found = 1
    for before, after in zip(small.records, large.records, strict=False):
        for a, b in zip(before.outputs, after.outputs, strict=False):
            sides = [(m, n) for m, n in zip(a, b, strict=False) if m != n]
            # A reshape that joins axes has a side that grows by more than the image.
            if len(a) == len(b) and len(sides) == 1 and sides[0][1] - sides[0][0] <= more:
                found = lcm(found, Fraction(sides[0][1] - sides[0][0], more).denominator)
    return found


def _words(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))
