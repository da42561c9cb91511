"""From an architecture on a card to the network, with random weights."""

from __future__ import annotations

from typing import assert_never

from torch import nn

from exactile.models.card import (
    Architecture,
    FCDenseNetArchitecture,
    FCNVGG16Architecture,
    SegNetArchitecture,
    UNet3dArchitecture,
    UNetArchitecture,
)
from exactile.models.fc_densenet import FCDenseNet
from exactile.models.fcn_vgg16 import FCNVGG16
from exactile.models.segnet import SegNet
from exactile.models.unet import UNet
from exactile.models.unet3d import UNet3d


def build(architecture: Architecture) -> nn.Module:
    """Return a new network (N, channels, *extent) to logits (N, classes, *extent).

    Raises:
        ValueError: if the architecture's numbers do not fit together.
    """
    arguments = architecture.model_dump(exclude={"name"})
    match architecture:
        case UNetArchitecture():
            return UNet(**arguments)
        case UNet3dArchitecture():
            return UNet3d(**arguments)
        case FCDenseNetArchitecture():
            return FCDenseNet(**arguments)
        case SegNetArchitecture():
            return SegNet(**arguments)
        case FCNVGG16Architecture():
            return FCNVGG16(**arguments)
        case _:
            assert_never(architecture)
