"""How many channels and spatial axes a network takes, where its file does not say.

Nothing is guessed: the numbers in use are tried, and where the network runs on more than one of
them, the user is asked. One channel runs where three are meant, too, if a mean of three is taken
off first.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

from exactile.errors import ModelError
from exactile.geometry import PLANES, VOLUMES
from exactile.locality.modulepath import evaluation
from exactile.locality.run import BATCH_AXIS, RUN_ERRORS, Run
from exactile.locality.search import TRIAL_EXTENTS, attempt

USUAL_CHANNELS = (1, 3, 2, 4)
"""Tried, the most frequent first."""

MOST_CHANNELS = 64
"""More channels than that are those of features inside a network, not of images."""


def sizes_to_try(channels: int | None, dimensions: int | None) -> list[tuple[int, int]]:
    """Return the pairs of dimensions and channels that are left open."""
    counts = USUAL_CHANNELS if channels is None else (channels,)
    sizes = (PLANES, VOLUMES) if dimensions is None else (dimensions,)
    return [(size, count) for size in sizes for count in counts]


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a network was tried with."""

    dimensions: int
    channels: tuple[int, ...]
    """Numbers of channels: those that it runs on, or all that were tried."""
    running: bool
    """Whether it runs on them."""

    def ask(self, name: str) -> ModelError:
        """Return the question which of several numbers is meant; `name` is the model's."""
        listed = f"{', '.join(map(str, self.channels[:-1]))} and {self.channels[-1]}"
        return ModelError(
            f"{name}: does not say how many channels it takes, and runs on {listed}, with other "
            "results for each: say how many its images have, with --channels N"
        )


def sizes_of(network: nn.Module, channels: int | None, dimensions: int | None) -> list[Sizes]:
    """Return what `network` runs on, as far as it is not known: one entry, if it runs at all.

    Where it does not, all that was tried is returned, for someone else to say what is wrong.
    """
    pairs = sizes_to_try(channels, dimensions)
    if len(pairs) == 1:
        (size, count), *_ = pairs
        return [Sizes(size, (count,), running=False)]
    if channels is None:
        inside = [count for count in _inside(network) if count not in USUAL_CHANNELS]
        pairs += [
            (size, count) for size in dict.fromkeys(size for size, _ in pairs) for count in inside
        ]
    running = [(size, count) for size, count in pairs if runs(network, count, size)]
    for size in _dimensions(network, running):
        counts = sorted(count for each, count in running if each == size)
        if len(counts) > 1:
            # Without data, places beyond the last channel are not seen to be missing.
            counts = [c for c in counts if runs(network, c, size, with_data=True)] or counts
        return [Sizes(size, tuple(counts), running=True)]
    tried = dict.fromkeys(size for size, _ in pairs)
    return [
        Sizes(size, tuple(count for each, count in pairs if each == size), running=False)
        for size in tried
    ]


def runs(network: nn.Module, channels: int, dimensions: int, *, with_data: bool = False) -> bool:
    """Whether `network` maps one image of so many channels to one output, at any usual size.

    It is tried on tensors without data, or on zeros.
    """
    with evaluation(network):
        for side in TRIAL_EXTENTS:
            if with_data and not _runs_on_zeros(network, (1, channels, *(side,) * dimensions)):
                continue
            try:
                found = attempt(network, channels, (side,) * dimensions, 0)
            except ModelError:
                # It runs, and returns something else than one tensor.
                return True
            if isinstance(found, Run):
                # See `_dimensions`: what it makes of a plane may be in the place of the batch.
                return found.shape is None or found.shape[0] == 1
    return False


def _dimensions(network: nn.Module, running: list[tuple[int, int]]) -> list[int]:
    """Return on images of how many axes `network` runs, those that it is made for first.

    Weights for volumes take a plane of several channels for a volume of one, without a batch, so
    that a network for volumes may run on planes, too: but not on a batch of them.
    """
    sizes = list(dict.fromkeys(size for size, _ in running))
    if len(sizes) < 2:
        return sizes
    batches = {
        size: any(_takes_batches(network, *pair) for pair in running if pair[0] == size)
        for size in sizes
    }
    return sorted(sizes, key=lambda size: (not batches[size], size))


def _takes_batches(network: nn.Module, dimensions: int, channels: int) -> bool:
    with evaluation(network):
        for side in TRIAL_EXTENTS:
            try:
                found = attempt(network, channels, (side,) * dimensions, BATCH_AXIS)
            except ModelError:
                return True
            if isinstance(found, Run):
                return True
    return False


def _runs_on_zeros(network: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        with torch.inference_mode():
            network(torch.zeros(shape))
    except RUN_ERRORS:
        return False
    return True


def _inside(network: nn.Module) -> list[int]:
    """Return how many channels the first weights inside take, if images have so many."""
    for tensor in chain(network.parameters(), network.buffers()):
        if tensor.ndim in (4, 5) and 1 < tensor.shape[1] <= MOST_CHANNELS:
            return [int(tensor.shape[1])]
    return []
