"""SegNet: the convolutions of VGG16, and their mirror image, which unpools where it was pooled.

    level 0   [3x3] x 2   width w     max-pool 2 -- indices --> unpool   [3x3] x 2 to the classes
    level 1   [3x3] x 2   width 2 w   max-pool 2 -- indices --> unpool   [3x3] x 2   to width w
    level 2   [3x3] x 3   width 4 w   max-pool 2 -- indices --> unpool   [3x3] x 3   to width 2 w
    level 3   [3x3] x 3   width 8 w   max-pool 2 -- indices --> unpool   [3x3] x 3   to width 4 w
    level 4   [3x3] x 3   width 8 w   max-pool 2 -- indices --> unpool   [3x3] x 3   to width 8 w

Each convolution but the last is followed by batch normalisation and ReLU. Nothing else is passed
across: a value of a coarse map goes back to the very pixel that it came from.

The radius of Majurski and Bajcsy (2021), 180 pixels, is equation 2 over the 13 convolutions of the
encoder, 2 + 2 * 2 + 3 * 4 + 3 * 8 + 3 * 16 = 90, and the 13 of the decoder, 90 again; that the last
one gives the classes itself does not matter.

Badrinarayanan, Kendall and Cipolla (2017), SegNet: A Deep Convolutional Encoder-Decoder
Architecture for Image Segmentation, IEEE TPAMI 39(12).
"""

from __future__ import annotations

from torch import Tensor, nn

from exactile.models.fcn_vgg16 import VGG16


class Convolution(nn.Sequential):
    """3 x 3 same convolution, batch normalisation, ReLU."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )


class SegNet(nn.Module):
    """Map images (N, channels, Y, X) to logits (N, classes, Y, X); Y and X are multiples of F = 32.

    `base_width` is the width of the first level, 64 in VGG16.
    """

    def __init__(self, channels: int = 1, classes: int = 2, base_width: int = 64) -> None:
        super().__init__()
        encoder: list[nn.Module] = []
        decoder: list[nn.Module] = []
        before = channels
        for level, (convolutions, multiple) in enumerate(VGG16):
            width = base_width * multiple
            inner = [Convolution(width, width) for _ in range(convolutions - 1)]
            encoder.append(nn.Sequential(Convolution(before, width), *inner))
            last = (
                nn.Conv2d(width, classes, kernel_size=3, padding=1)
                if level == 0
                else Convolution(width, before)
            )
            mirrored = [Convolution(width, width) for _ in range(convolutions - 1)]
            decoder.append(nn.Sequential(*mirrored, last))
            before = width
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(reversed(decoder))
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of `image`."""
        x = image
        pooled: list[Tensor] = []
        for block in self.encoder:
            x, indices = self.pool(block(x))
            pooled.append(indices)
        for block in self.decoder:
            x = block(self.unpool(x, pooled.pop()))
        return x
