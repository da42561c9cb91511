"""From a folder with a card and weights to a network that is ready to run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

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
    card_path, card = _read_card(path)
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
    try:
        tensors = load(content)
    except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"{weights}: is not a safetensors file, or a damaged one: {error}; save the weights "
            "again with safetensors"
        ) from error
    architecture = card.architecture
    try:
        network = UNet(**architecture.model_dump(exclude={"name"}))
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{card_path}: its architecture cannot be built: {error}") from error
    _fill(network, tensors, weights)
    locality = unet_locality(
        architecture.depth, architecture.convolutions, architecture.kernel_size
    )
    return Model(card, network.eval().requires_grad_(False), locality, digest)


def _fill(network: nn.Module, tensors: dict[str, Tensor], weights: Path) -> None:
    # Batch counters are not in the file: evaluation does not use them.
    expected = {
        name: tensor.shape
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    found = {name: tensor.shape for name, tensor in tensors.items()}
    wrong = [n for n in sorted(expected | found) if expected.get(n) != found.get(n)]
    if wrong:
        raise ModelError(
            f"{weights}: does not fit the architecture on its card: {len(wrong)} tensors are "
            f"missing, too many, or of another shape, among them {wrong[0]}"
        )
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise ModelError(
            f"{weights}: {len(bad)} tensors hold values that are not finite, among them {bad[0]}; "
            "use weights of an earlier step of the training"
        )
    network.load_state_dict(tensors, strict=False)


def _read_card(path: Path) -> tuple[Path, Card]:
    """Return the path of the card in folder `path`, or `path` itself, with its content."""
    try:
        path = path / CARD_NAME if path.is_dir() else path
        text = path.read_text(encoding="utf-8")
        return path, Card.model_validate(json.loads(text))
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
