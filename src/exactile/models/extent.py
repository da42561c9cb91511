"""Whether a network takes an image of some size as a whole; nothing is computed for it."""

from __future__ import annotations

from torch import Tensor

from exactile.errors import ModelError
from exactile.locality.dry_run import without_data
from exactile.locality.run import RUN_ERRORS
from exactile.models.model import Model


def check_extent(model: Model, extent: tuple[int, ...]) -> None:
    """See that the network of `model`, on the CPU, runs on a padded image of `extent`.

    Raises:
        ModelError: if it does not; or if it has no locality and returns another size.
    """
    network = model.network
    try:
        with without_data(network, model.channels, extent) as image:
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
