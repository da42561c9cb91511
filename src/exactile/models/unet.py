"""The U-Net of Majurski and Bajcsy (2021), of any width, depth and number of convolutions.

    level 0   [conv ReLU BN] x n ------------ skip ------------> cat -> [conv ReLU BN] x n -> 1x1
                 | max-pool 2                                     ^ transposed conv k2 s2, BN
    level 1   [conv ReLU BN] x n ---- skip ---> cat -> [conv ReLU BN] x n
                 |                               ^
    depth     [conv ReLU BN] x n  ---------------+

The published network has depth 4, n = 2, k = 3 and base width 64. Theirs also passes the logits
through ReLU and batch normalisation; ours leaves them as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BATCH_NORM_EPSILON = 1e-3


class ConvolutionBlock(nn.Sequential):
    """n times: same convolution with bias, ReLU, batch normalisation."""

    def __init__(self, channels: int, width: int, convolutions: int, kernel_size: int) -> None:
        layers: list[nn.Module] = []
        for _ in range(convolutions):
            layers += [
                nn.Conv2d(channels, width, kernel_size, padding=kernel_size // 2),
                nn.ReLU(),
                nn.BatchNorm2d(width, eps=BATCH_NORM_EPSILON),
            ]
            channels = width
        super().__init__(*layers)


class UpSampling(nn.Sequential):
    """Double both sides with a 2 x 2 transposed convolution of stride 2, then normalise."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(channels, width, kernel_size=2, stride=2),
            nn.BatchNorm2d(width, eps=BATCH_NORM_EPSILON),
        )


class UNet(nn.Module):
    """Map images (N, channels, Y, X) to logits (N, classes, Y, X); Y and X are multiples of F.

    F is 2 to the power of `depth`.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 2,
        base_width: int = 64,
        depth: int = 4,
        convolutions: int = 2,
        kernel_size: int = 3,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"a same convolution needs an odd kernel, not {kernel_size}")
        widths = [base_width * 2**level for level in range(depth + 1)]
        before = [channels, *widths[:-1]]
        self.down = nn.ModuleList(
            ConvolutionBlock(c, w, convolutions, kernel_size)
            for c, w in zip(before, widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.5)
        self.up = nn.ModuleList(UpSampling(2 * w, w) for w in widths[:-1])
        self.merge = nn.ModuleList(
            ConvolutionBlock(2 * w, w, convolutions, kernel_size) for w in widths[:-1]
        )
        self.classify = nn.Conv2d(base_width, classes, kernel_size=1)
        self.depth = depth

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of `image`."""
        skips: list[Tensor] = []
        x = image
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x))
            if level >= self.depth - 1 and level > 0:
                x = self.dropout(x)
            skips.append(x)
        skips.pop()
        for level in reversed(range(self.depth)):
            x = self.merge[level](torch.cat([skips.pop(), self.up[level](x)], dim=1))
        logits: Tensor = self.classify(x)
        return logits
