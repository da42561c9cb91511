"""Our own format: a folder with a card, `model.json`, and the safetensors file that it names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from exactile.errors import ModelError
from exactile.models.architectures import build
from exactile.models.card import CARD_NAME, Card
from exactile.models.network_file import NetworkFile
from exactile.processing import NIST_ZSCORE, Softmax
from exactile.stored_json import MalformedError, read_json

KINDS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""Types of weights that are understood."""


def load_card(path: Path) -> NetworkFile:
    """Load the model in folder `path`, or the one whose card `path` is.

    Raises:
        ModelError: if card or weights are missing, damaged, or do not fit each other.
    """
    path = path / CARD_NAME if path.is_dir() else path
    card = read_card(path)
    weights = path.parent / card.weights.file
    try:
        content = weights.read_bytes() if weights.is_file() or not weights.exists() else None
    except OSError as error:
        raise ModelError(
            f"{path}: names the weights {card.weights.file}, which cannot be read "
            f"({error.strerror}); put the file beside the card"
        ) from error
    if content is None:
        raise ModelError(f"{weights}: is no file; put the weights of the card there")
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.weights.sha256:
        raise ModelError(
            f"{weights}: has SHA-256 {digest}, but the card says {card.weights.sha256}; the file "
            "is damaged or belongs to another card: copy both again"
        )
    try:
        tensors = load(content)
    except (SafetensorError, LookupError, RuntimeError, ValueError, TypeError) as error:
        raise ModelError(
            f"{weights}: is not a safetensors file, or a damaged one: {error}; save the weights "
            "again with safetensors"
        ) from error
    try:
        # Without memory first: the weights say whether the widths that a card asks for are right.
        with torch.device("meta"):
            outline = build(card.architecture)
        _check_weights(outline, tensors, weights)
        network = build(card.architecture)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{path}: its architecture cannot be built: {error}") from error
    network.load_state_dict(tensors, strict=False)
    return NetworkFile(
        name=card.name,
        version=card.version,
        format="exactile card",
        network=network.eval().requires_grad_(False),
        sha256=digest,
        channels=card.architecture.channels,
        dimensions=card.architecture.dimensions,
        classes=card.classes,
        before=(NIST_ZSCORE,),
        after=(Softmax(),),
    )


def read_card(path: Path) -> Card:
    """Return the content of the card at `path`.

    Raises:
        ModelError: if it cannot be read, or is not a card.
    """
    try:
        return Card.model_validate(read_json(path))
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}); --model takes a folder with "
            f"{CARD_NAME} and its weights"
        ) from error
    except MalformedError as error:
        raise ModelError(
            f"{path}: is not a model card: {error}; --model takes a folder with "
            f"{CARD_NAME} and its weights, or that {CARD_NAME}"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        # The name of the architecture, which chooses the rules, is not a field of the card.
        fields = [str(part) for part in first["loc"]]
        where = ".".join(fields[:1] + fields[2:] if fields[:1] == ["architecture"] else fields)
        raise ModelError(
            f"{path}: is not a valid model card: {where or 'the card'}: {first['msg']}"
        ) from error


def _check_weights(network: nn.Module, tensors: dict[str, Tensor], weights: Path) -> None:
    """See that `tensors` are those of `network`, and numbers. Raises ModelError."""
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
    strange = [name for name, tensor in tensors.items() if tensor.dtype not in KINDS]
    if strange:
        raise ModelError(
            f"{weights}: {len(strange)} tensors are not of floats of 16, 32 or 64 bits, among them "
            f"{strange[0]} of {tensors[strange[0]].dtype}; save them as float32"
        )
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise ModelError(
            f"{weights}: {len(bad)} tensors hold values that are not finite, among them {bad[0]}; "
            "use weights of an earlier step of the training"
        )
