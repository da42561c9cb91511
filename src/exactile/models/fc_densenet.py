"""FC-DenseNet-56, -67 and -103 of Jegou et al. (2017), as Majurski and Bajcsy (2021) use them.

    first 3x3 convolution
    level 0   dense block ------------- skip -------------> cat -> dense block -> 1x1
                 | 1x1, max-pool 2                           ^ transposed conv k3 s2, new features
    level 1   dense block ------ skip ------> cat -> dense block
                 |                             ^
    level 5   dense block (bottleneck) --------+

A dense layer is batch normalisation, ReLU and a 3 x 3 convolution to `growth` new features; it
reads the block's input and the new features of all layers before it. On the way down a block passes
on its input with its new features, on the way up the new features only.

Jegou, Drozdzal, Vazquez, Romero and Bengio (2017), The One Hundred Layers Tiramisu: Fully
Convolutional DenseNets for Semantic Segmentation, CVPR workshops, tables 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Layers = Literal[56, 67, 103]
"""The published sizes, by their number of convolutions."""

DROPOUT = 0.2
"""Share of features that training leaves out after each convolution."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many layers the blocks of a published network have."""

    blocks: tuple[int, int, int, int, int]
    """Dense layers of the blocks on the way down, from the finest; the way up mirrors them."""
    bottleneck: int
    """Dense layers of the coarsest block."""
    growth: int
    """New features of each dense layer."""


SIZES: dict[Layers, Size] = {
    56: Size((4, 4, 4, 4, 4), 4, 12),
    67: Size((5, 5, 5, 5, 5), 5, 16),
    103: Size((4, 5, 7, 10, 12), 15, 16),
}


class DenseBlock(nn.Module):
    """Dense layers: (N, channels, Y, X) to (N, layers * growth, Y, X), the new features alone."""

    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(channels + place * growth),
                nn.ReLU(),
                nn.Conv2d(channels + place * growth, growth, kernel_size=3, padding=1),
                nn.Dropout2d(DROPOUT),
            )
            for place in range(layers)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the new features of all layers, in their order."""
        made: list[Tensor] = []
        for layer in self.layers:
            made.append(layer(torch.cat([image, *made], dim=1)))
        return torch.cat(made, dim=1)


class TransitionDown(nn.Sequential):
    """Batch normalisation, ReLU, 1 x 1 convolution, max-pooling to half of both sides."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=1),
            nn.Dropout2d(DROPOUT),
            nn.MaxPool2d(2),
        )


class FCDenseNet(nn.Module):
    """Map images (N, channels, Y, X) to logits (N, classes, Y, X); Y and X are multiples of F = 32.

    `layers` is 56, 67 or 103; `growth` is that of the published network unless given.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 2,
        layers: Layers = 56,
        first_width: int = 48,
        growth: int | None = None,
    ) -> None:
        super().__init__()
        if layers not in SIZES:
            raise ValueError(f"there is no FC-DenseNet-{layers}; use 56, 67 or 103")
        size = SIZES[layers]
        growth = size.growth if growth is None else growth
        self.first = nn.Conv2d(channels, first_width, kernel_size=3, padding=1)
        self.down, self.transitions = nn.ModuleList(), nn.ModuleList()
        width, skips = first_width, []
        for count in size.blocks:
            self.down.append(DenseBlock(width, growth, count))
            width += count * growth
            self.transitions.append(TransitionDown(width))
            skips.append(width)
        self.bottleneck = DenseBlock(width, growth, size.bottleneck)
        self.up, self.merge = nn.ModuleList(), nn.ModuleList()
        new = size.bottleneck * growth
        for count, skip in zip(reversed(size.blocks), reversed(skips), strict=True):
            self.up.append(
                nn.ConvTranspose2d(new, new, kernel_size=3, stride=2, padding=1, output_padding=1)
            )
            self.merge.append(DenseBlock(new + skip, growth, count))
            new = count * growth
        self.classify = nn.Conv2d(new, classes, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of `image`."""
        x = self.first(image)
        skips: list[Tensor] = []
        for block, transition in zip(self.down, self.transitions, strict=True):
            x = torch.cat([x, block(x)], dim=1)
            skips.append(x)
            x = transition(x)
        x = self.bottleneck(x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([up(x), skips.pop()], dim=1))
        logits: Tensor = self.classify(x)
        return logits
