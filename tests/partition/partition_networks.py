"""Networks to run partitioned, by name; each is made alike on every rank."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from exactile.models.fc_densenet import FCDenseNet
from exactile.models.unet import UNet
from exactile.models.unet3d import UNet3d


class Residual(nn.Module):
    """A residual block with instance normalisation, dilated."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.norm = nn.InstanceNorm2d(width, affine=True)
        self.second = nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect")
        self.last = nn.GroupNorm(2, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.last(self.second(F.relu(self.norm(self.first(x))))))


class ResidualUNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.left = Residual(4)
        self.down = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.deep = Residual(8, dilation=2)
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1)
        self.right = Residual(8)
        self.classify = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(self.stem(x))
        right = self.up(self.deep(self.down(left)))
        return self.classify(self.right(torch.cat([left, right], 1)))


class ResidualUNet3d(nn.Module):
    """A residual U-Net of volumes: instance norm, strides that differ by axis, dilation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, 4, 3, padding=1, bias=False)
        self.left = nn.InstanceNorm3d(4, affine=True)
        self.down = nn.Conv3d(4, 6, 3, stride=(1, 2, 2), padding=1)
        self.deep = nn.Conv3d(6, 6, 3, padding=2, dilation=2)
        self.norm = nn.InstanceNorm3d(6)
        self.up = nn.ConvTranspose3d(6, 4, (1, 2, 2), stride=(1, 2, 2))
        self.classify = nn.Conv3d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        left = F.leaky_relu(self.left(self.stem(x)), 0.01)
        down = self.down(left)
        up = self.up(F.leaky_relu(down + self.norm(self.deep(down)), 0.01))
        return self.classify(torch.cat([left, F.interpolate(up, left.shape[2:])], 1))


class SqueezeExcitation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 5, padding=2, padding_mode="replicate")
        self.squeeze = nn.Sequential(nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 6), nn.Sigmoid())
        self.last = nn.Conv2d(6, 2, 3, padding=1, padding_mode="circular")

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, c, _, _ = x.size()
        both = [F.adaptive_avg_pool2d(x, 1).view(b, c), F.adaptive_max_pool2d(x, 1).flatten(1)]
        y = self.squeeze(torch.cat(both, 1)).view(b, c, 1, 1)
        x = x * y.expand_as(x)
        weights = torch.softmax(x.mean(3), dim=2).unsqueeze(3)
        x = x * (1 + weights) + x.amax((2, 3), keepdim=True)
        return self.last(x) / x.std((2, 3), keepdim=True).mean(1, keepdim=True)


class Mixed(nn.Module):
    """Strides, dilations, poolings and resizings of many kinds, in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, (4, 3), padding="same")
        self.strided = nn.Conv2d(4, 4, 5, stride=(2, 3), padding=2, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.wide = nn.Conv2d(4, 4, 3, padding=6, dilation=6)
        self.average = nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True)
        self.inside = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        self.maximum = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)
        self.prelu = nn.PReLU(4)
        self.up = nn.ConvTranspose2d(4, 2, (5, 3), stride=3, padding=1, output_padding=(2, 1))

    def forward(self, x: Tensor) -> Tensor:
        side = x.shape[2:]
        x = self.prelu(self.norm(self.strided(self.first(x))))
        x = self.average(x) + self.inside(self.average(x)) + self.maximum(x)
        x = x.add_(1) * 2
        x = F.interpolate(x, scale_factor=2, mode="bilinear") - F.interpolate(x, scale_factor=2)
        x = self.up(self.wide(x))
        x = F.interpolate(x, size=side, mode="bilinear", align_corners=True)
        shuffled = F.pixel_shuffle(torch.cat([x, x * 2], 1), 2)[:, :, 1:-1, 2::2]
        back = F.interpolate(shuffled, size=side, mode="bilinear")
        return torch.cat([x, back, F.interpolate(x, size=side, mode="nearest-exact")], 1)


class Volume(nn.Module):
    """Layer normalisation with channels last, squeeze-and-excitation, padding of a volume."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, 4, 3, stride=(1, 2, 2), padding=1)
        self.norm = nn.LayerNorm(4)
        self.mix = nn.Linear(4, 4)
        self.gate = nn.Conv3d(4, 4, 1)
        self.pad = nn.ReplicationPad3d((1, 2, 0, 1, 2, 0))
        self.last = nn.Conv3d(4, 2, 3, bias=False)
        self.up = nn.Upsample(scale_factor=(1, 3, 2), mode="trilinear")

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.mix(self.norm(x.permute(0, 2, 3, 4, 1))).permute(0, 4, 1, 2, 3)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3, 4), keepdim=True)))
        x = checkpoint(lambda y: F.silu(self.last(self.pad(y))), x, use_reentrant=False)
        first, second = self.up(x).chunk(2, dim=1)
        return torch.stack([first, second.clamp(-1, 1)], 2).flatten(1, 2)


class Joined(nn.Module):
    """Branches from one input, of which the first says the extent, joined as `how` says."""

    def __init__(self, how: str, *branches: nn.Module) -> None:
        super().__init__()
        self.how = how
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = (branch(x) for branch in self.branches)
        sized = [F.interpolate(y, first.shape[2:]) for y in others]
        if self.how == "cat":
            return torch.cat([first, *sized], 1)
        for y in sized:
            first = first + y if self.how == "add" else first * torch.sigmoid(y)
        return first


class Shortened(nn.Module):
    """Leaves out positions at both ends of the last axis, and every second one between."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., 1:-1:2]


class Chain(nn.Module):
    """Layers one after another, the first on one channel; `+` before a layer adds its input."""

    def __init__(self, *layers: str) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = layers
        self.parts = nn.ModuleList(eval(layer.lstrip("+")) for layer in layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer, part in zip(self.layers, self.parts, strict=True):
            x = x + part(x) if layer.startswith("+") else part(x)
        return x

    def __repr__(self) -> str:
        return f"Chain{self.layers}"


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "unet": lambda: UNet(base_width=2, depth=2, convolutions=1),
    "unet3d": lambda: UNet3d(base_width=2, depth=2, convolutions=1),
    "residual": ResidualUNet,
    "residual3d": ResidualUNet3d,
    "squeeze": SqueezeExcitation,
    "mixed": Mixed,
    "volume": Volume,
    "densenet": lambda: FCDenseNet(first_width=4, growth=2),
}


def made(name: str, seed: int, dtype: torch.dtype, training: bool) -> nn.Module:
    """Make a network with weights from `seed`, and statistics that change what they normalise."""
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.2, 0.6)
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network.to(dtype).train(training)
