"""The first run of a network from elsewhere: in a confined child process, on small images.

What is there to crash, to hang, or to do harm does so there. The network is loaded, run once on
noise, and traced once as `exactile.locality` will do it, which is where the libraries beneath have
ended processes by signals. A network that only fails with an error, as on a size that it does not
take, is none of this module's business: what comes after says so better.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from itertools import product

import torch
from torch import nn

from exactile.errors import ModelError
from exactile.isolation import Bounds, Tell, can_confine, run_confined
from exactile.locality.modulepath import evaluation
from exactile.locality.run import RUN_ERRORS, quiet_logs
from exactile.locality.search import attempt
from exactile.temporary import do_without_temporary_files

logger = logging.getLogger(__name__)

CHANNELS = (1, 3, 2, 4)
"""Tried in this order where a file does not say how many it takes."""

SIDES = {2: (64, 96, 256), 3: (32, 64)}
"""Sides of the images that are tried, by the number of spatial axes; the first that runs."""

MEMORY_BYTES = 4 << 30
"""What a first run may take, besides what is taken in proportion to the file."""

MEMORY_OF_FILE = 8

SECONDS = 30
"""What a first run may take, besides what is taken in proportion to the file."""

SECONDS_FOR_BYTES = 1 << 23

Load = Callable[[Tell], tuple[nn.Module, int | None, int | None]]
"""Loads a network, and returns it with its channels and spatial axes, where these are known."""

DO = (
    "export the network again with torch.export or torch.jit.trace, and make its constant tensors "
    "in its __init__ (register_buffer)"
)


def try_out(load: Load, size: int, what: str, seconds: int = SECONDS) -> None:
    """Load a network from a file of `size` bytes and run it, where it can do no harm.

    `what` names the file in a refusal; `seconds` of computation are for loading and running it.

    Raises:
        ModelError: if loading says so; or if it ended the process, or did not end.
    """
    if not can_confine():
        logger.info("%s: is run in this process: the system has no processes to confine", what)
        return
    do_without_temporary_files()
    _import_what_tracing_needs()
    bounds = Bounds(MEMORY_BYTES + MEMORY_OF_FILE * size, seconds + size // SECONDS_FOR_BYTES)
    outcome = run_confined(lambda tell: _try(load, tell), bounds)
    if outcome.refused:
        raise ModelError(outcome.refused)
    if outcome.ended:
        raise ModelError(
            f"{what}: cannot be run: the process that tried it did not come to its end while "
            f"{outcome.during}: {outcome.ended}; {DO}"
        )


@cache
def _import_what_tracing_needs() -> None:
    """Let torch import what it does at the first trace; else child and parent would do so.

    It takes two seconds, which this process takes sooner or later.
    """
    attempt(nn.Conv2d(1, 1, 1), 1, (2, 2), 0)


def _try(load: Load, tell: Tell) -> None:
    tell("it was loaded")
    network, channels, dimensions = load(tell)
    for axes in (2, 3) if dimensions is None else (dimensions,):
        counts = CHANNELS if channels is None else (channels,)
        for side, count in product(SIDES.get(axes, ()), counts):
            extent = (side,) * axes
            if _runs(network, (1, count, *extent), tell):
                _trace(network, count, extent, tell)
                return


def _runs(network: nn.Module, shape: tuple[int, ...], tell: Tell) -> bool:
    tell(f"it ran on {_words(shape)}")
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    try:
        with evaluation(network), torch.inference_mode():
            network(noise)
    except RUN_ERRORS:
        return False
    return True


def _trace(network: nn.Module, channels: int, extent: tuple[int, ...], tell: Tell) -> None:
    tell(f"its operators were traced on {_words((1, channels, *extent))}")
    with evaluation(network), quiet_logs():
        try:
            attempt(network, channels, extent, 0)
        except (ModelError, *RUN_ERRORS) as error:
            logger.debug("the trace says: %s", error)


def _words(shape: tuple[int, ...]) -> str:
    _, channels, *extent = shape
    return f"{channels} channel(s) of {' x '.join(map(str, extent))} px"
