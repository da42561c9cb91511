"""The characteristic parts of published networks, at small width, for tests only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from locality_brute import Function
from torch import nn


def conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Module:
    """A convolution that keeps the size, or divides it by the stride, with ReLU."""
    padding = kernel // 2 * dilation
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups), nn.ReLU()
    )


class LinkNet(nn.Module):
    """Residual blocks of stride 2, decoded by 1x1, 3x3 transposed, 1x1, and added."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(1, 2, 7, 2)
        self.blocks = nn.ModuleList(conv(2, 2, 3, 2) for _ in range(2))
        self.short = nn.ModuleList(nn.Conv2d(2, 2, 1, 2) for _ in range(2))
        self.decoders = nn.ModuleList(
            nn.Sequential(
                conv(2, 2, 1), nn.ConvTranspose2d(2, 2, 3, 2, 1, 1), nn.ReLU(), conv(2, 2, 1)
            )
            for _ in range(3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        skips = []
        for block, short in zip(self.blocks, self.short, strict=True):
            skips.append(x)
            x = block(x) + short(x)
        for decoder in self.decoders[:2]:
            x = decoder(x) + skips.pop()
        return self.decoders[2](x)


class SegNet(nn.Module):
    """Values go back to where the pooling found them."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([conv(1, 2), conv(2, 2)])
        self.up = nn.ModuleList([conv(2, 2), conv(2, 2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = []
        for part in self.down:
            y = part(x)
            x, indices = F.max_pool2d(y, 2, return_indices=True)
            places.append((indices, y.shape))
        for part in self.up:
            indices, shape = places.pop()
            x = part(F.max_unpool2d(x, indices, 2, output_size=shape))
        return x


class ENet(nn.Module):
    """Initial block, and bottlenecks: dilated, and of one row and one column."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, 2, 1)
        self.dilated = nn.Sequential(conv(3, 2, 1), conv(2, 2, 3, dilation=2), conv(2, 3, 1))
        self.separate = nn.Sequential(
            conv(3, 2, 1),
            nn.Conv2d(2, 2, (5, 1), padding=(2, 0)),
            nn.Conv2d(2, 3, (1, 5), padding=(0, 2)),
        )
        self.up = nn.ConvTranspose2d(3, 2, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.first(x), F.max_pool2d(x, 2)], 1)
        x = x + self.dilated(x)
        return self.up(x + self.separate(x))


class ASPP(nn.Module):
    """DeepLab: a strided stem, parallel dilations, bilinear up-sampling to the image's size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(1, 2, 3, 2), conv(2, 2, 3, 2))
        self.parts = nn.ModuleList(conv(2, 1, 3, dilation=d) for d in (1, 2, 4))
        self.head = conv(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        y = self.head(torch.cat([part(y) for part in self.parts], 1))
        return F.interpolate(y, size=x.shape[2:], mode="bilinear")


class HRNet(nn.Module):
    """Two resolutions side by side, which exchange what they have twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.lower = conv(1, 2, 3, 2), conv(2, 2, 3, 2)
        self.high = nn.ModuleList([conv(2, 2), conv(2, 2)])
        self.low = nn.ModuleList([conv(2, 2), conv(2, 2)])
        self.down = nn.ModuleList([conv(2, 2, 3, 2), conv(2, 2, 3, 2)])
        self.head = conv(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        high = self.stem(x)
        low = self.lower(high)
        for first, second, down in zip(self.high, self.low, self.down, strict=True):
            a, b = first(high), second(low)
            high, low = a + F.interpolate(b, size=a.shape[2:]), b + down(a)
        low = F.interpolate(low, size=high.shape[2:], mode="bilinear")
        return F.interpolate(self.head(torch.cat([high, low], 1)), scale_factor=2, mode="bilinear")


class FPN(nn.Module):
    """A feature pyramid: top-down by size, smoothed, all levels summed at a quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([conv(1, 2, 3, 2), conv(2, 2, 3, 2), conv(2, 2, 3, 2)])
        self.lateral = nn.ModuleList([nn.Conv2d(2, 2, 1) for _ in range(3)])
        self.smooth = nn.ModuleList([conv(2, 2) for _ in range(3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        levels, y = [], x
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            y = stage(y)
            levels.append(lateral(y))
        for place in (1, 0):
            above = F.interpolate(levels[place + 1], size=levels[place].shape[2:])
            levels[place] = levels[place] + above
        size = levels[0].shape[2:]
        smoothed = [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]
        return sum(F.interpolate(level, size=size, mode="bilinear") for level in smoothed)


class Pyramid(nn.Module):
    """PSPNet's pyramid with poolings of fixed windows in the place of fixed counts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(1, 2, 3, 2)
        self.parts = nn.ModuleList(conv(2, 1, 1) for _ in range(3))
        self.head = conv(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        pooled = [part(F.avg_pool2d(y, k)) for part, k in zip(self.parts, (2, 3, 6), strict=True)]
        resized = [F.interpolate(part, size=y.shape[2:], mode="bilinear") for part in pooled]
        return F.interpolate(self.head(torch.cat([y, *resized], 1)), size=x.shape[2:])


class Inverted(nn.Module):
    """MobileNet V2: widen, depthwise, narrow; the second block is residual."""

    def __init__(self) -> None:
        super().__init__()

        def block(inputs: int, stride: int) -> nn.Module:
            return nn.Sequential(
                conv(inputs, 4, 1), conv(4, 4, 3, stride, groups=4), nn.Conv2d(4, 2, 1), nn.ReLU6()
            )

        self.first, self.second, self.up = (
            block(1, 2),
            block(2, 1),
            nn.Upsample(scale_factor=2, mode="bilinear"),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return self.up(y + self.second(y))


class ConvNeXt(nn.Module):
    """Patches of 4, a wide depthwise convolution, layer norm and linear layers on channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = nn.Conv2d(1, 4, 4, 4), nn.Conv2d(4, 4, 7, padding=3, groups=4)
        self.norm, self.mlp = (
            nn.LayerNorm(4),
            nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)),
        )
        self.up = nn.PixelShuffle(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.mlp(self.norm(self.wide(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return F.interpolate(self.up(x), scale_factor=2, mode="bilinear")


class ShuffleNet(nn.Module):
    """Halves of the channels: one passes, one is convolved; then they are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(1, 4, 3, 2)
        self.branch = nn.Sequential(conv(2, 2, 1), conv(2, 2, 3, groups=2), conv(2, 2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        for _ in range(2):
            passed, convolved = y.chunk(2, 1)
            y = F.channel_shuffle(torch.cat([passed, self.branch(convolved)], 1), 2)
        return F.interpolate(y, scale_factor=2)


class Nested(nn.Module):
    """U-Net++ of depth 2: every skip is a row of blocks."""

    def __init__(self) -> None:
        super().__init__()
        names = {"00": 1, "10": 2, "20": 2, "01": 4, "11": 4, "02": 6}
        self.blocks = nn.ModuleDict({name: conv(width, 2) for name, width in names.items()})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: dict[str, torch.Tensor] = {"00": self.blocks["00"](x)}
        for level in (1, 2):
            made[f"{level}0"] = self.blocks[f"{level}0"](F.max_pool2d(made[f"{level - 1}0"], 2))
        for name in ("01", "11", "02"):
            level, column = int(name[0]), int(name[1])
            row = [made[f"{level}{other}"] for other in range(column)]
            below = F.interpolate(made[f"{level + 1}{column - 1}"], scale_factor=2, mode="bilinear")
            made[name] = self.blocks[name](torch.cat([*row, below], 1))
        return made["02"]


class Dense(nn.Module):
    """A level of FC-DenseNet: dense blocks around a pooling and a 3x3 transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([conv(1, 2), conv(3, 2)])
        self.bottom = nn.ModuleList([conv(5, 2), conv(7, 2)])
        self.up = nn.ConvTranspose2d(4, 2, 3, 2, 1, 1)
        self.join = nn.ModuleList([conv(7, 2), conv(9, 2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.down:
            x = torch.cat([x, layer(x)], 1)
        y = F.max_pool2d(x, 2)
        for layer in self.bottom:
            y = torch.cat([y, layer(y)], 1)
        x = torch.cat([x, self.up(y[:, 5:])], 1)
        for layer in self.join:
            x = torch.cat([x, layer(x)], 1)
        return x[:, 7:]


def rounded_up() -> nn.Module:
    """Poolings that round up, taken back to the sizes before them."""

    def run(x: torch.Tensor, *parts: nn.Module) -> torch.Tensor:
        a = parts[0](x)
        b = parts[1](F.max_pool2d(a, 3, 2, ceil_mode=True))
        c = F.avg_pool2d(b, 3, 2, padding=1, ceil_mode=True)
        b = b + F.interpolate(c, scale_factor=2)[:, :, : b.shape[2], : b.shape[3]]
        return a + F.interpolate(b, scale_factor=2)[:, :, : a.shape[2], : a.shape[3]]

    return Function(run, conv(1, 2), conv(2, 2))


def blurred() -> nn.Module:
    """Anti-aliased down-sampling: a fixed blur of reflected borders, strided."""

    def run(x: torch.Tensor, first: nn.Module, second: nn.Module) -> torch.Tensor:
        y = F.max_pool2d(first(x), 2, 1)
        y = F.pad(y, (1, 2, 1, 2), mode="reflect")
        taps = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype)
        kernel = torch.outer(taps, taps).expand(2, 1, 3, 3) / 16
        return F.interpolate(second(F.conv2d(y, kernel, stride=2, groups=2)), scale_factor=2)

    return Function(run, conv(1, 2), conv(2, 2))


def windows() -> nn.Module:
    """Attention inside windows of 4 x 4 between convolutions."""

    def run(x: torch.Tensor, first: nn.Module, qkv: nn.Module) -> torch.Tensor:
        y = first(x)
        rows, columns = y.shape[2] // 4, y.shape[3] // 4
        parts = y.view(-1, 2, rows, 4, columns, 4).permute(0, 2, 4, 3, 5, 1)
        query, key, value = qkv(parts.reshape(-1, 16, 2)).chunk(3, -1)
        mixed = (query @ key.transpose(1, 2)).softmax(-1) @ value
        back = mixed.view(-1, rows, columns, 4, 4, 2).permute(0, 5, 1, 3, 2, 4)
        return y + back.reshape(y.shape)

    return Function(run, conv(1, 2), nn.Linear(2, 6))
