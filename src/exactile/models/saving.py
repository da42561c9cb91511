"""From a trained network to a folder that `load_model` reads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from exactile.models.card import CARD_NAME, Card

WEIGHTS_NAME = "weights.safetensors"


def save_model(folder: Path, network: nn.Module, description: dict[str, Any]) -> Card:
    """Write weights and card of `network` into `folder`, which is made if it is missing.

    `description` has the fields of the card but `format` and `weights`, which are filled in here.
    """
    tensors = {
        name: tensor.contiguous()
        for name, tensor in network.state_dict().items()
        # Batch counters: evaluation does not use them.
        if not name.endswith("num_batches_tracked")
    }
    content = save(tensors)
    weights = {"file": WEIGHTS_NAME, "sha256": hashlib.sha256(content).hexdigest()}
    card = Card.model_validate({"format": "exactile-model-1", "weights": weights, **description})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS_NAME).write_bytes(content)
    text = json.dumps(card.model_dump(mode="json"), indent=2)
    (folder / CARD_NAME).write_text(text + "\n", encoding="utf-8")
    return card
