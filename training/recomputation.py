"""Activations computed again on the way back instead of kept, for volumes that else do not fit.

Kept are the inputs of the way up's levels, and of each convolution with its normalisation and
activation; on the way up only while their level is computed again. What is computed again has the
same bits, and so have gradients; its planes are exchanged once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from exactile.models.unet3d import ConvolutionBlock3d, UNet3d
from exactile.partition import SplitTensor
from exactile.partition.tensor import wrap


def recompute(network: UNet3d) -> None:
    """Let `network` forget in training what can be computed again."""
    for block in network.modules():
        if isinstance(block, ConvolutionBlock3d):
            block.forward = partial(_step_by_step, list(block))  # type: ignore[method-assign]
    rise = network.rise
    network.rise = partial(_forgotten, network, rise)  # type: ignore[method-assign]


def _step_by_step(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    for at in range(0, len(layers), 3):
        group = nn.Sequential(*layers[at : at + 3])
        x = _forgotten(group, group, x)
    return x


def _forgotten(module: nn.Module, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Call `function`, whose layers are those of `module`, and keep its arguments alone."""
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm)]
    if not norms[0].training:
        return function(*arguments)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _unseen(norms)

    # Of split tensors the parts are kept and computed again: those have gradients.
    frames = [(a.splits, a.mesh) if isinstance(a, SplitTensor) else None for a in arguments]
    parts = [a.local if isinstance(a, SplitTensor) else a for a in arguments]
    made: list[Any] = []

    def of_parts(*parts: Any) -> Tensor:
        given = (p if f is None else wrap(p, *f) for p, f in zip(parts, frames, strict=True))
        result = function(*given)
        if not isinstance(result, SplitTensor):
            return result
        made[:] = [(result.splits, result.mesh)]
        return result.local

    part: Tensor = checkpoint(of_parts, *parts, use_reentrant=False, context_fn=contexts)
    return wrap(part, *made[0]) if made else part


@contextmanager
def _unseen(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Keep running statistics as they are: they have seen these inputs before."""
    before = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, tracks in zip(norms, before, strict=True):
            norm.track_running_stats = tracks
