"""How many channels and spatial axes a network takes, where its file does not say.

Nothing is guessed: the numbers in use are tried, and where the network runs on more than one of
them, the user is asked. One channel runs where three are meant, too, if a mean of three is taken
off first.
"""

from __future__ import annotations

from itertools import chain

from torch import nn

from exactile.errors import ModelError
from exactile.geometry import PLANES, VOLUMES
from exactile.locality.modulepath import evaluation
from exactile.locality.run import Run
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


def choose_sizes(
    network: nn.Module, name: str, channels: int | None, dimensions: int | None
) -> list[tuple[int, int]]:
    """Return the dimensions and channels that `network` takes: one pair where any pair runs.

    Where none does, all that were tried are returned, for someone else to say what is wrong.

    Raises:
        ModelError: if it runs on several numbers of channels.
    """
    pairs = sizes_to_try(channels, dimensions)
    if len(pairs) == 1:
        return pairs
    if channels is None:
        inside = [count for count in _inside(network) if count not in USUAL_CHANNELS]
        pairs += [
            (size, count) for size in dict.fromkeys(size for size, _ in pairs) for count in inside
        ]
    running = [(size, count) for size, count in pairs if runs(network, count, size)]
    for size in (PLANES, VOLUMES):
        counts = sorted(count for each, count in running if each == size)
        if len(counts) > 1:
            listed = f"{', '.join(map(str, counts[:-1]))} and {counts[-1]}"
            raise ModelError(
                f"{name}: does not say how many channels it takes, and runs on {listed}, with "
                "other results for each: say how many its images have, with --channels N"
            )
        if counts:
            return [(size, counts[0])]
    return pairs


def runs(network: nn.Module, channels: int, dimensions: int) -> bool:
    """Whether `network` maps one image of so many channels to one output, at any usual size."""
    with evaluation(network):
        for side in TRIAL_EXTENTS:
            try:
                found = attempt(network, channels, (side,) * dimensions, 0)
            except ModelError:
                # It runs, and returns something else than one tensor.
                return True
            if isinstance(found, Run):
                # A volume's convolution takes a plane of several channels for a volume of one,
                # without a batch: the channels it makes are in the place of the batch then.
                return found.shape is None or found.shape[0] == 1
    return False


def _inside(network: nn.Module) -> list[int]:
    """Return how many channels the first weights inside take, if images have so many."""
    for tensor in chain(network.parameters(), network.buffers()):
        if tensor.ndim in (4, 5) and 1 < tensor.shape[1] <= MOST_CHANNELS:
            return [int(tensor.shape[1])]
    return []
