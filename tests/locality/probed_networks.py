"""Random networks of every operator that changes the size or reads its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import torch
import torch.nn.functional as F
from locality_brute import Function
from torch import nn

LINEAR = ("bilinear", "bicubic")


def interpolation(mode: str, factor: float) -> nn.Module:
    return Function(lambda x: F.interpolate(x, scale_factor=factor, mode=mode))


def same(random: Random) -> nn.Module:
    """A convolution that keeps the size: an even kernel is padded on its high side."""
    rows, columns = random.choice([(1, 1), (2, 2), (3, 3), (3, 3), (3, 1), (1, 5), (5, 5)])
    dilation = random.choice([1, 1, 1, 2, 3])
    if rows == 2:
        pad = random.choice([nn.ZeroPad2d, nn.ReplicationPad2d, nn.ReflectionPad2d])
        margins = (dilation * (columns - 1), dilation * (rows - 1))
        return nn.Sequential(
            pad((0, margins[0], 0, margins[1])), nn.Conv2d(2, 2, 2, dilation=dilation)
        )
    return nn.Conv2d(
        *(2, 2, (rows, columns)),
        padding=(rows // 2 * dilation, columns // 2 * dilation),
        dilation=dilation,
        groups=random.choice([1, 2]),
        padding_mode=random.choice(["zeros", "zeros", "reflect", "replicate"]),
    )


def down(random: Random, factor: int) -> nn.Module:
    """A change of size by 1 / factor, exactly."""
    first = random.randrange(factor)
    choices: list[Callable[[], nn.Module]] = [
        lambda: nn.MaxPool2d(factor),
        lambda: nn.MaxPool2d(3, factor, 1),
        lambda: nn.MaxPool2d(3, factor, ceil_mode=True),
        lambda: nn.AvgPool2d(factor),
        lambda: nn.AvgPool2d(3, factor, 1, count_include_pad=False),
        lambda: nn.LPPool2d(2, factor),
        lambda: nn.Conv2d(2, 2, factor, factor),
        lambda: nn.Conv2d(2, 2, 3, factor, 1),
        lambda: nn.Conv2d(2, 2, 7, factor, 3),
        lambda: nn.Sequential(nn.PixelUnshuffle(factor), nn.Conv2d(2 * factor**2, 2, 1)),
        lambda: Function(lambda x: x[:, :, first::factor, first::factor]),
    ]
    if factor == 2:
        modes = ("nearest", "nearest-exact", "area", *LINEAR)
        choices += [lambda mode=mode: interpolation(mode, 0.5) for mode in modes]  # type: ignore[misc]
    return random.choice(choices)()


class Level(nn.Module):
    """What is done before going down, how, and what is done after coming up."""

    def __init__(self, random: Random, factor: int) -> None:
        super().__init__()
        self.before, self.down, self.after = same(random), down(random, factor), same(random)
        self.skip = random.random() < 0.7
        self.mode = random.choice(("nearest", "nearest-exact", *LINEAR))
        self.resizes = random.choice(["by scale", "to size", "other", "other"])
        wider = nn.Conv2d(2, 2 * factor**2, 1)
        self.up = random.choice(
            [
                nn.ConvTranspose2d(2, 2, factor, factor),
                nn.ConvTranspose2d(2, 2, 3, factor, 1, factor - 1),
                nn.ConvTranspose2d(2, 2, factor + 2, factor, 1),
                nn.ConvTranspose2d(2, 2, 3, factor, 2, factor - 1, dilation=2),
                nn.Sequential(wider, nn.PixelShuffle(factor)),
            ]
        )
        if self.resizes == "by scale":
            self.up = interpolation(self.mode, factor)
        self.rounds = factor == 3 and self.resizes != "other" and self.mode in LINEAR
        """It resamples by thirds, for which the tracing adds a neighbour."""

    def back(self, x: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        if self.resizes == "to size":
            return F.interpolate(x, size=shape[2:], mode=self.mode)
        return self.up(x)


class Ladder(nn.Module):
    """Down and up again by one to three levels."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        random = Random(seed)
        factors = random.choice([(2,), (3,), (2, 2), (2, 3), (3, 2), (2, 2, 2)])
        self.first, self.bottom = nn.Conv2d(1, 2, 1), same(random)
        self.levels = nn.ModuleList(Level(random, factor) for factor in factors)

    @property
    def rounds(self) -> int:
        """How often it resamples by thirds."""
        return sum(level.rounds for level in self.levels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        skips = []
        for level in self.levels:
            skips.append(level.before(x))
            x = level.down(skips[-1])
        x = self.bottom(x)
        for level in reversed(self.levels):
            skip = skips.pop()
            x = level.back(x, skip.shape)
            x = level.after(x + skip if level.skip else x)
        return x
