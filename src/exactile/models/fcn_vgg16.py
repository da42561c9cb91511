"""FCN-32s: VGG16 made fully convolutional, its stride-32 prediction enlarged in one step.

    level 0   [3x3] x 2   width w       max-pool 2
    level 1   [3x3] x 2   width 2 w     max-pool 2
    level 2   [3x3] x 3   width 4 w     max-pool 2
    level 3   [3x3] x 3   width 8 w     max-pool 2
    level 4   [3x3] x 3   width 8 w     max-pool 2
    level 5   7x7 'fc6', 1x1 'fc7' of width 64 w, 1x1 to the classes
    level 0   transposed convolution k64 s32, which starts as bilinear interpolation

All convolutions are same ones, 'fc6' too, so that the logits have the image's size; the original
pads the image by 100 pixels instead.

The radius of Majurski and Bajcsy (2021), 202 pixels, is that of this variant. By their equation 2
the 3 x 3 convolutions give 2 + 2 * 2 + 3 * 4 + 3 * 8 + 3 * 16 = 90 and fc6 gives 3 * 32 = 96. The
last 16 are what the transposed convolution spreads beyond the 32 pixels of its own cell on each
side, (64 - 32) / 2. (Half of fc6's receptive field of 404 pixels, which counts the poolings instead
of the up-sampling, is the same number.) The operators need more: see docs/results/radii.csv.

Long, Shelhamer and Darrell (2015), Fully Convolutional Networks for Semantic Segmentation, CVPR;
Simonyan and Zisserman (2015), Very Deep Convolutional Networks for Large-Scale Image Recognition,
ICLR, table 1, column D.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

VGG16 = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))
"""Convolutions of each level, and their width in multiples of the base width."""

STRIDE = 32
"""Pixels of the image for each position of the coarsest feature map: F."""


class FCNVGG16(nn.Module):
    """Map images (N, channels, Y, X) to logits (N, classes, Y, X); Y and X are multiples of F = 32.

    `base_width` is the width of the first level, 64 in VGG16; fc6 and fc7 have 64 times as many.
    """

    def __init__(self, channels: int = 1, classes: int = 2, base_width: int = 64) -> None:
        super().__init__()
        levels: list[nn.Module] = []
        for convolutions, multiple in VGG16:
            layers: list[nn.Module] = []
            for _ in range(convolutions):
                width = base_width * multiple
                layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.ReLU()]
                channels = width
            levels.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        self.levels = nn.Sequential(*levels)
        hidden = 64 * base_width
        self.fc6 = nn.Conv2d(channels, hidden, kernel_size=7, padding=3)
        self.fc7 = nn.Conv2d(hidden, hidden, kernel_size=1)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout2d(0.5)
        self.classify = nn.Conv2d(hidden, classes, kernel_size=1)
        self.enlarge = nn.ConvTranspose2d(
            classes,
            classes,
            kernel_size=2 * STRIDE,
            stride=STRIDE,
            padding=STRIDE // 2,
            groups=classes,
            bias=False,
        )
        with torch.no_grad():
            self.enlarge.weight.copy_(bilinear(STRIDE))

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of `image`."""
        x = self.levels(image)
        x = self.dropout(self.relu(self.fc6(x)))
        x = self.dropout(self.relu(self.fc7(x)))
        logits: Tensor = self.enlarge(self.classify(x))
        return logits


def bilinear(factor: int) -> Tensor:
    """Return the kernel (2 factor, 2 factor) that enlarges by an even `factor` bilinearly.

    >>> bilinear(2)[1]
    tensor([0.1875, 0.5625, 0.5625, 0.1875])
    """
    distance = (torch.arange(2 * factor) - (factor - 0.5)).abs() / factor
    return torch.outer(1 - distance, 1 - distance)
