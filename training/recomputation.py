"""Activations computed again on the way back instead of kept, for volumes that else do not fit.

Of each convolution with its normalisation and activation only the input is kept. What is computed
again has the same bits, and so have gradients; planes are exchanged once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from exactile.models.unet3d import ConvolutionBlock3d


def recompute(network: nn.Module) -> None:
    """Let all convolution blocks of `network` forget what can be computed again."""
    for block in network.modules():
        if isinstance(block, ConvolutionBlock3d):
            block.forward = _forgetful(block)  # type: ignore[method-assign]


def _forgetful(block: ConvolutionBlock3d) -> Callable[[Tensor], Tensor]:
    layers = list(block)
    groups = [nn.Sequential(*layers[at : at + 3]) for at in range(0, len(layers), 3)]

    def forward(x: Tensor) -> Tensor:
        for group in groups:
            if not block.training:
                x = group(x)
                continue
            norm = next(layer for layer in group if isinstance(layer, _BatchNorm))

            def contexts(
                norm: _BatchNorm = norm,
            ) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
                return nullcontext(), _unseen(norm)

            made: Tensor = checkpoint(group, x, use_reentrant=False, context_fn=contexts)
            x = made
        return x

    return forward


@contextmanager
def _unseen(norm: _BatchNorm) -> Iterator[None]:
    """Keep the running statistics as they are: they have seen this input before."""
    norm.track_running_stats = False
    try:
        yield
    finally:
        norm.track_running_stats = True
