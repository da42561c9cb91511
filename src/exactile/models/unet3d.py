"""The volumetric U-Net of Cicek et al. (2016), as the public Mesh-TensorFlow one has it.

    level 0   [conv BN leaky ReLU] x n ------- skip -------> cat -> [conv BN leaky ReLU] x n -> 1x1
                 | max-pool 2                                 ^ transposed conv k2 s2
    level 1   [conv BN leaky ReLU] x n -- skip --> cat -> [conv BN leaky ReLU] x n
                 |                                  ^
    depth     [conv BN leaky ReLU] x n -------------+

That one (Hou et al. 2019, arXiv 1909.03108) has base width 32, depth 3, n = 2 and k = 3, and leaky
ReLU of slope 0.1. Cicek's own doubles the width before each pooling and has plain ReLU.

Cicek, Abdulkadir, Lienkamp, Brox and Ronneberger (2016), 3D U-Net: Learning Dense Volumetric
Segmentation from Sparse Annotation, MICCAI.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NEGATIVE_SLOPE = 0.1
"""Slope of the leaky ReLU below zero."""


class ConvolutionBlock3d(nn.Sequential):
    """n times: same convolution, batch normalisation, leaky ReLU."""

    def __init__(self, channels: int, width: int, convolutions: int, kernel_size: int) -> None:
        layers: list[nn.Module] = []
        for _ in range(convolutions):
            layers += [
                nn.Conv3d(channels, width, kernel_size, padding=kernel_size // 2),
                nn.BatchNorm3d(width),
                nn.LeakyReLU(NEGATIVE_SLOPE),
            ]
            channels = width
        super().__init__(*layers)


class UNet3d(nn.Module):
    """Map volumes (N, channels, Z, Y, X) to logits (N, classes, Z, Y, X).

    Z, Y and X are multiples of F, which is 2 to the power of `depth`.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 2,
        base_width: int = 32,
        depth: int = 3,
        convolutions: int = 2,
        kernel_size: int = 3,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"a same convolution needs an odd kernel, not {kernel_size}")
        widths = [base_width * 2**level for level in range(depth + 1)]
        before = [channels, *widths[:-1]]
        self.down = nn.ModuleList(
            ConvolutionBlock3d(c, w, convolutions, kernel_size)
            for c, w in zip(before, widths, strict=True)
        )
        self.pool = nn.MaxPool3d(2)
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(2 * w, w, kernel_size=2, stride=2) for w in widths[:-1]
        )
        self.merge = nn.ModuleList(
            ConvolutionBlock3d(2 * w, w, convolutions, kernel_size) for w in widths[:-1]
        )
        self.classify = nn.Conv3d(base_width, classes, kernel_size=1)
        self.depth = depth

    def forward(self, volume: Tensor) -> Tensor:
        """Return the logits of `volume`."""
        skips: list[Tensor] = []
        x = volume
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x))
            skips.append(x)
        skips.pop()
        for level in reversed(range(self.depth)):
            x = self.rise(level, x, skips.pop())
        logits: Tensor = self.classify(x)
        return logits

    def rise(self, level: int, below: Tensor, skip: Tensor) -> Tensor:
        """Return the map of `level`, from that of the level below and the one that skipped it."""
        joined = torch.cat([skip, self.up[level](below)], dim=1)
        # Else it would stay in memory until the level is done.
        del skip
        made: Tensor = self.merge[level](joined)
        return made
