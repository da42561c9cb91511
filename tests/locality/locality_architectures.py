"""A table of small networks of the architectures that are in use, for tests only."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from locality_networks import UNet
from locality_published import (
    ASPP,
    FPN,
    ConvNeXt,
    Dense,
    ENet,
    HRNet,
    Inverted,
    LinkNet,
    Nested,
    Pyramid,
    SegNet,
    ShuffleNet,
    blurred,
    conv,
    rounded_up,
    windows,
)
from torch import nn


class Resize(nn.Module):
    def __init__(self, mode: str, factor: int = 2) -> None:
        super().__init__()
        self.mode, self.factor = mode, factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=self.factor, mode=self.mode)


Make = Callable[[], nn.Module]


class Encoder(nn.Module):
    """A U-shape: `down` and `up` make the changes of size, skips are concatenated."""

    def __init__(self, depth: int, down: Make, up: Make, kernel: int = 3) -> None:
        super().__init__()
        self.before = nn.ModuleList(
            conv(1 if level == 0 else 2, 2, kernel) for level in range(depth)
        )
        self.down = nn.ModuleList(down() for _ in range(depth))
        self.bottom = conv(2, 2, kernel)
        self.up = nn.ModuleList(up() for _ in range(depth))
        self.after = nn.ModuleList(conv(4, 2, kernel) for _ in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for before, down in zip(self.before, self.down, strict=True):
            skips.append(before(x))
            x = down(skips[-1])
        x = self.bottom(x)
        for up, after in zip(self.up, self.after, strict=True):
            x = after(torch.cat([up(x), skips.pop()], 1))
        return x


class Valid(nn.Module):
    """A U-Net without padding, as first published: skips are cropped."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.below = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)
        self.up, self.last = nn.ConvTranspose2d(2, 2, 2, 2), nn.Conv2d(4, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.first(x)
        deep = self.up(self.below(F.max_pool2d(skip, 2)))
        top, left = ((skip.shape[d] - deep.shape[d]) // 2 for d in (2, 3))
        kept = skip[:, :, top : top + deep.shape[2], left : left + deep.shape[3]]
        return self.last(torch.cat([kept, deep], 1))


class Volume(nn.Module):
    """A 3-D U-Net that leaves the first axis at its resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.below = nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 2, 3, padding=1)
        self.up = nn.ConvTranspose3d(2, 2, (1, 2, 2), (1, 2, 2))
        self.last = nn.Conv3d(4, 2, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.first(x)
        deep = self.up(self.below(F.max_pool3d(skip, (1, 2, 2))))
        return self.last(torch.cat([skip, deep], 1))


def unet(up: Make, down: Make = lambda: nn.MaxPool2d(2), depth: int = 2) -> Make:
    return lambda: Encoder(depth, down, up)


ARCHITECTURES: dict[str, Make] = {
    "U-Net, depth 1": lambda: UNet(1, 2),
    "U-Net, depth 3": lambda: UNet(3, 1),
    "U-Net, 5x5": lambda: Encoder(2, lambda: nn.MaxPool2d(2), lambda: Resize("nearest"), 5),
    "U-Net, valid": Valid,
    "nearest decoder": unet(lambda: Resize("nearest")),
    "bilinear decoder": unet(lambda: Resize("bilinear")),
    "bicubic decoder": unet(lambda: Resize("bicubic")),
    "pixel-shuffle decoder": unet(lambda: nn.Sequential(nn.Conv2d(2, 8, 1), nn.PixelShuffle(2))),
    "3x3 transposed decoder": unet(lambda: nn.ConvTranspose2d(2, 2, 3, 2, 1, 1)),
    "4x4 transposed decoder": unet(lambda: nn.ConvTranspose2d(2, 2, 4, 2, 1)),
    "strided encoder": unet(lambda: Resize("nearest"), lambda: conv(2, 2, 3, 2)),
    "unshuffled encoder": unet(
        lambda: Resize("nearest"), lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(8, 2, 1))
    ),
    "stride 3": unet(lambda: nn.ConvTranspose2d(2, 2, 3, 3), lambda: conv(2, 2, 3, 3), 1),
    "stride 3, bilinear": unet(lambda: Resize("bilinear", 3), lambda: nn.AvgPool2d(3), 1),
    "stride 5": unet(lambda: Resize("nearest", 5), lambda: conv(2, 2, 7, 5), 1),
    "overlapping pool": unet(lambda: Resize("nearest"), lambda: nn.MaxPool2d(3, 2, 1)),
    "anisotropic": lambda: nn.Sequential(
        nn.Conv2d(1, 2, (3, 7), padding=(1, 3)),
        nn.MaxPool2d((1, 4)),
        nn.Conv2d(2, 2, 3, padding=1),
        nn.Upsample(scale_factor=(1, 4)),
    ),
    "LinkNet": LinkNet,
    "SegNet": SegNet,
    "ENet": ENet,
    "DeepLab ASPP": ASPP,
    "dilated context": lambda: nn.Sequential(
        conv(1, 2), *(conv(2, 2, dilation=d) for d in (1, 2, 4, 8))
    ),
    "HRNet": HRNet,
    "FPN": FPN,
    "pyramid of fixed pools": Pyramid,
    "MobileNet V2": Inverted,
    "ConvNeXt": ConvNeXt,
    "ShuffleNet": ShuffleNet,
    "U-Net++": Nested,
    "FC-DenseNet": Dense,
    "rounded-up pools": rounded_up,
    "blurred pool": blurred,
    "window attention": windows,
    "quarter resolution": lambda: nn.Sequential(conv(1, 2, 7, 2), conv(2, 2, 3, 2), conv(2, 2)),
    "doubled resolution": lambda: nn.Sequential(conv(1, 8, 5), nn.PixelShuffle(2), conv(2, 2)),
    "3-D U-Net": Volume,
}
