"""Whether a network takes an image of some size as a whole; nothing is computed for it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from exactile.errors import ModelError
from exactile.locality.modulepath import evaluation
from exactile.locality.run import RUN_ERRORS, quiet_logs
from exactile.locality.shapes import Shapes
from exactile.models.model import Model


def check_extent(model: Model, extent: tuple[int, ...]) -> None:
    """See that the network of `model`, on the CPU, runs on a padded image of `extent`.

    Raises:
        ModelError: if it does not; or if it has no locality and returns another size.
    """
    network = model.network
    try:
        with (
            evaluation(network),
            torch.no_grad(),
            quiet_logs(),
            FakeTensorMode(allow_non_fake_inputs=True),
        ):
            image = torch.empty((1, model.channels, *extent))
            with Shapes():
                output = network(image)
    except RUN_ERRORS as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{model.name} does not run on an image padded to {_words(extent)} px, multiples of "
            f"F = {_words(model.locality.alignment)}: {said}; give larger images, or export the "
            "network with an example of such a size"
        ) from error
    shape = tuple(map(int, output.shape[2:])) if isinstance(output, Tensor) else ()
    if model.refused is not None and shape != extent:
        raise ModelError(
            f"{model.name} returns {_words(shape)} positions for {_words(extent)} px; without a "
            "locality, where they lie is known only if there are as many"
        )


def _words(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))
