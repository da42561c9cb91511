"""The papers' networks at small width, for tests only."""

from __future__ import annotations

import torch
from torch import nn


def same_convolutions(inputs: int, outputs: int, count: int, dims: int = 2) -> nn.Sequential:
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims]
    layers: list[nn.Module] = []
    for place in range(count):
        layers += [
            conv(inputs if place == 0 else outputs, outputs, 3, padding=1),
            nn.ReLU(),
            norm(outputs, eps=1e-3),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """U-Net with `count` convolutions a level, `depth` poolings, `width` channels at the top."""

    def __init__(
        self, depth: int, count: int, width: int = 2, classes: int = 2, dims: int = 2
    ) -> None:
        super().__init__()
        pool = {2: nn.MaxPool2d, 3: nn.MaxPool3d}[dims]
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        transposed = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dims]
        norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims]
        widths = [width] * (depth + 1)
        self.down = nn.ModuleList(
            same_convolutions(1 if level == 0 else widths[level - 1], widths[level], count, dims)
            for level in range(depth + 1)
        )
        self.pool = pool(2)
        self.up = nn.ModuleList(
            nn.Sequential(transposed(widths[level + 1], widths[level], 2, 2), norm(widths[level]))
            for level in reversed(range(depth))
        )
        self.join = nn.ModuleList(
            same_convolutions(2 * widths[level], widths[level], count, dims)
            for level in reversed(range(depth))
        )
        self.head = conv(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x))
            skips.append(x)
        skips.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([skips.pop(), up(x)], 1))
        return self.head(x)


class DenseBlock(nn.Module):
    """Dense layers BN-ReLU-3x3; returns the input with all new features, and those alone."""

    def __init__(self, inputs: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(inputs + place * growth),
                nn.ReLU(),
                nn.Conv2d(inputs + place * growth, growth, 3, padding=1),
            )
            for place in range(layers)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        new = []
        for layer in self.layers:
            made = layer(x)
            new.append(made)
            x = torch.cat([x, made], 1)
        return x, torch.cat(new, 1)


class FCDenseNet(nn.Module):
    """FC-DenseNet of Jegou et al. (2017) as the papers use it."""

    def __init__(
        self, layers: list[int], bottleneck: int, growth: int, first: int = 48, classes: int = 2
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, first, 3, padding=1)
        width, widths = first, []
        self.down, self.transition = nn.ModuleList(), nn.ModuleList()
        for count in layers:
            self.down.append(DenseBlock(width, growth, count))
            width += count * growth
            widths.append(width)
            self.transition.append(
                nn.Sequential(
                    nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 1), nn.MaxPool2d(2)
                )
            )
        self.bottleneck = DenseBlock(width, growth, bottleneck)
        new = bottleneck * growth
        self.up, self.join = nn.ModuleList(), nn.ModuleList()
        for count, skip in zip(reversed(layers), reversed(widths), strict=True):
            self.up.append(nn.ConvTranspose2d(new, new, 3, 2, 1, 1))
            self.join.append(DenseBlock(new + skip, growth, count))
            new = count * growth
        self.head = nn.Conv2d(new, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        skips = []
        for block, transition in zip(self.down, self.transition, strict=True):
            x, _ = block(x)
            skips.append(x)
            x = transition(x)
        _, new = self.bottleneck(x)
        for up, join in zip(self.up, self.join, strict=True):
            _, new = join(torch.cat([up(new), skips.pop()], 1))
        return self.head(new)


def fc_densenet(depth: int, first: int = 4, growth: int = 2) -> FCDenseNet:
    layers, bottleneck = {
        56: ([4] * 5, 4),
        67: ([5] * 5, 5),
        103: ([4, 5, 7, 10, 12], 15),
    }[depth]
    return FCDenseNet(layers, bottleneck, growth, first)
