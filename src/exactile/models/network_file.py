"""What a file of any format says about a network: all loaders return this one value."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from exactile.processing import After, Before


@dataclass(frozen=True)
class NetworkFile:
    """A network in evaluation mode with what its file declares, and nothing that it does not."""

    name: str
    version: str
    """Empty where the file names none."""
    format: str
    """For people: `exactile card`, `TorchScript`, `torch.export`, `bioimage.io`, `ONNX`."""
    network: nn.Module
    """Maps (N, channels, *extent) float32 to one tensor (N, outputs, *extent)."""
    sha256: str
    """Digest of the file that holds the weights."""
    channels: int | None = None
    """Input channels."""
    dimensions: int | None = None
    """Spatial axes: 2 for planes, 3 for volumes."""
    classes: tuple[str, ...] | None = None
    """Names of the output channels."""
    before: tuple[Before, ...] | None = None
    """Pre-processing; an empty tuple says that there is none."""
    after: tuple[After, ...] | None = None
    """Post-processing; an empty tuple says that there is none."""
    outputs: tuple[str, ...] = ()
    """Names of all outputs that its network has, where they are several; those without a name are
    numbered from 0."""
    output: str = ""
    """Name of the one that `network` returns, where they are several."""
    declared_halo: tuple[int, ...] | None = None
    """The halo that a description declares, by spatial axis, in pixels: to compare, not to use."""
