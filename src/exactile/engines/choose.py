"""Which engine runs a network: the one asked for, or the fastest that is proven to fit.

Every engine but eager PyTorch is compared with it on noise, and its locality is confirmed, before
it is used: one asked for by name is refused if it does not pass, `auto` goes back to eager.

`auto` also goes back where the windows of a run are not bit-stable: eager PyTorch has
`exactile.fixed_order`, the others sum as they like. That was seen rarely (OpenVINO with a ResNet-50
U-Net in float32), and exact comes before fast.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn

from exactile.engine import Engine, EngineName, Precision
from exactile.engines.agreement import DisagreementError, compare
from exactile.engines.compiled import CompiledEngine, make_compiled_engine
from exactile.engines.eager import make_engine
from exactile.engines.locality import confirm_locality
from exactile.engines.openvino import OpenVINOEngine, make_openvino_engine
from exactile.errors import ModelError, SettingsError
from exactile.locality import Analysis
from exactile.locality.poison import MAX_PIXELS, test_images

logger = logging.getLogger(__name__)

Other = CompiledEngine | OpenVINOEngine
Maker = Callable[[nn.Module, torch.device, Precision], Other]

MAKERS: Mapping[EngineName, Maker] = {
    "compile": make_compiled_engine,
    "openvino": make_openvino_engine,
}

FASTEST: Mapping[str, EngineName] = {"cpu": "openvino"}
"""The fastest engine by type of device, where another than eager was measured to be
(benchmarks/engines.py). Engines on a GPU have not been measured."""


def choose_engine(
    name: EngineName,
    network: nn.Module,
    device: torch.device,
    precision: Precision,
    analysis: Analysis,
    channels: int,
) -> Engine:
    """Return the engine called `name` for `network`, float32, in evaluation mode, not to change.

    `analysis` is that of the network, which takes (N, channels, *extent). `auto` is the fastest
    engine that is installed, takes the network and passes; the log says why if it is not the first.

    Raises:
        SettingsError: if the engine asked for is not there, or not for this device.
        ModelError: if it does not take the network, or gives other results than eager PyTorch.
    """
    wanted = FASTEST.get(device.type, "eager") if name == "auto" else name
    if wanted == "eager":
        return make_engine(network, device, precision)
    try:
        return _proven(wanted, network, device, precision, analysis, channels)
    except (SettingsError, ModelError) as error:
        if name != "auto":
            raise
        doubtful = isinstance(error, DisagreementError)
        level = logging.WARNING if doubtful else logging.INFO
        # Nobody gave the option that the message is about.
        said = str(error).removeprefix(f"--engine {wanted}: ").removesuffix("; use --engine eager")
        logger.log(level, "the network is run by eager PyTorch: %s", said)
    return make_engine(network, device, precision)


def _proven(
    name: EngineName,
    network: nn.Module,
    device: torch.device,
    precision: Precision,
    analysis: Analysis,
    channels: int,
) -> Engine:
    """Return the engine, after the comparison and the proof."""
    engine = MAKERS[name](network, device, precision)
    sides, _ = next(test_images(analysis, MAX_PIXELS))
    try:
        agreement = compare(engine, network, channels, sides)
        confirm_locality(engine, analysis, channels)
    except (RuntimeError, MemoryError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"--engine {name}: the network cannot be run in {precision} on {engine.describe()}: "
            f"{said[0]}; use --engine eager"
        ) from error
    logger.info("%s: %s", engine.describe(), agreement.sentence())
    return replace(engine, agreement=agreement)
