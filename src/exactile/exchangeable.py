"""Whether a network can be run as it is asked for: in tiles, or by exchange."""

from __future__ import annotations

import torch

from exactile.errors import ModelError
from exactile.geometry import Box, ceil_to
from exactile.models.model import Model
from exactile.models.whole_extent import by_exchange
from exactile.partition import NotPartitioned, PartitionError
from exactile.partition.outofcore import Parts, run_in_parts
from exactile.partition.shelf import HostShelf

UNLIMITED = 2**62
"""Bytes, where nothing is to be put away."""


def check_strategy(model: Model, strategy: str) -> None:
    """See that `model` can be run by `strategy`: auto, tile or exchange.

    Raises:
        ModelError: if it has no locality and is to be run in tiles; if it is to be run by exchange,
            and cannot be; if it can be run neither way.
    """
    if model.refused is None and strategy != "exchange":
        return
    said = objection(model)
    if model.refused is not None and strategy == "tile":
        raise model.refused if said else by_exchange(model.refused)
    if not said:
        return
    if model.refused is not None:
        raise ModelError(f"{model.refused}; nor can it be run by exchange: {said}")
    raise ModelError(f"--strategy exchange: {model.name}: {said}; use --strategy auto or tile")


def objection(model: Model) -> str:
    """Return why `model` cannot be run by exchange; empty where it can.

    It is tried on zeros, on the least extent that the network was seen on, in two parts.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.network.modules()):
        return (
            "TorchScript runs past the rules of exchange; export the network with torch.export, or "
            "to ONNX"
        )
    axes = model.locality.axes
    extent = tuple(axis.pad(max(axis.least, 2 * axis.alignment)) for axis in axes)
    half = ceil_to(extent[0] // 2, axes[0].alignment)
    parts = Parts(((0, half, extent[0]), *((0, side) for side in extent[1:])))
    try:
        run_in_parts(
            model.network,
            parts,
            lambda box: torch.zeros(1, model.channels, *box.shape),
            _forget,
            UNLIMITED,
            HostShelf(),
        )
    except (PartitionError, RuntimeError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return said if isinstance(error, NotPartitioned) else f"it cannot be run in parts: {said}"
    return ""


def _forget(box: Box, values: torch.Tensor) -> None:
    """Take a part of the trial's output."""
