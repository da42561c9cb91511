"""The papers' networks at small width, as the tests of locality ask for them."""

from __future__ import annotations

from typing import Literal

from torch import nn

from exactile.models import fc_densenet as densenets
from exactile.models import unet, unet3d


def UNet(  # noqa: N802 - it stands for the class
    depth: int, count: int, width: int = 2, classes: int = 2, dims: int = 2
) -> nn.Module:
    """U-Net with `count` convolutions a level, `depth` poolings, `width` channels at the top."""
    kind = {2: unet.UNet, 3: unet3d.UNet3d}[dims]
    return kind(classes=classes, base_width=width, depth=depth, convolutions=count)


def fc_densenet(
    layers: Literal[56, 67, 103], first: int = 4, growth: int = 2
) -> densenets.FCDenseNet:
    return densenets.FCDenseNet(layers=layers, first_width=first, growth=growth)
