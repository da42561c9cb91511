"""A network that is run partitioned: with the locality that tiling needs, or without one."""

from __future__ import annotations

import logging

import torch

from exactile.errors import ModelError
from exactile.models.loading import open_model
from exactile.models.model import Model, check_meaning, complete
from exactile.settings import SegmentSettings

logger = logging.getLogger(__name__)


def load_network(settings: SegmentSettings) -> Model:
    """Load the network that `settings` name.

    Raises:
        ModelError: if it cannot be loaded or run, has no locality and returns another size than it
            is given, or if what its output means is not known.
    """
    file = open_model(settings.model, settings.output)
    if any(isinstance(module, torch.jit.ScriptModule) for module in file.network.modules()):
        raise ModelError(
            f"{settings.model}: TorchScript runs past the rules of partitioning; give the network "
            "as a card, a torch.export program (.pt2) or ONNX"
        )
    model = complete(file, settings.told, exchange=True)
    check_meaning(model, settings.output_type)
    if model.refused is not None:
        logger.info("%s: has no locality, which is not needed here: %s", model.name, model.refused)
    return model
