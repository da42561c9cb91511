"""From a folder with a card and weights to a network that is ready to run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from exactile.errors import ModelError
from exactile.geometry import Locality
from exactile.locality.unet import unet_locality
from exactile.models.card import CARD_NAME, Card
from exactile.models.unet import UNet

BUNDLED = Path(__file__).parent / "bundled" / "stem_cells"
"""The model that is used when none is named."""


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode with what is known about it."""

    card: Card
    network: nn.Module
    """Maps (N, channels, Y, X) float32 to logits (N, classes, Y, X)."""
    locality: Locality
    """F and halo on (Y, X)."""
    sha256: str
    """Digest of the weights' file."""

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return self.card.architecture.channels

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the output channels."""
        return self.card.classes


def load_model(path: Path = BUNDLED) -> Model:
    """Load the model in folder `path`, or the one whose card `path` is.

    Raises:
        ModelError: if card or weights are missing, damaged, or do not fit each other.

    """
    card_path = path / CARD_NAME if path.is_dir() else path
    card = _read_card(card_path)
    weights = card_path.parent / card.weights.file
    try:
        content = weights.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{card_path}: names the weights {card.weights.file}, which cannot be read "
            f"({error.strerror}); put the file beside the card"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.weights.sha256:
        raise ModelError(
            f"{weights}: has SHA-256 {digest}, but the card says {card.weights.sha256}; the file "
            "is damaged or belongs to another card: copy both again"
        )
    architecture = card.architecture
    try:
        network = UNet(**architecture.model_dump(exclude={"name"}))
        # Batch counters are not in the file: evaluation does not use them.
        missing, unexpected = network.load_state_dict(load(content), strict=False)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"{weights}: does not fit the architecture on its card: {error}"
        ) from error
    wrong = [name for name in missing if not name.endswith("num_batches_tracked")] + unexpected
    if wrong:
        raise ModelError(
            f"{weights}: does not fit the architecture on its card: {len(wrong)} tensors are "
            f"missing or too many, among them {wrong[0]}"
        )
    locality = unet_locality(
        architecture.depth, architecture.convolutions, architecture.kernel_size
    )
    return Model(card, network.eval().requires_grad_(False), locality, digest)


def _read_card(path: Path) -> Card:
    try:
        text = path.read_text(encoding="utf-8")
        return Card.model_validate(json.loads(text))
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}); --model takes a folder with "
            f"{CARD_NAME} and its weights"
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(
            f"{path}: is not a model card: it is not JSON; --model takes a folder with "
            f"{CARD_NAME} and its weights, or that {CARD_NAME}"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the card"
        raise ModelError(f"{path}: is not a valid model card: {where}: {first['msg']}") from error
