"""Networks whose axes are in another order than ours."""

from __future__ import annotations

from torch import Tensor, nn


class Reordered(nn.Module):
    """A network whose axes are in another order than (N, channels, *extent)."""

    def __init__(self, network: nn.Module, before: str, after: str) -> None:
        """`before` and `after` are the letters of the network's own axes, in its order."""
        super().__init__()
        usual = "bc" + "".join(letter for letter in "zyx" if letter in before)
        self.network = network
        self.before = tuple(usual.index(letter) for letter in before)
        self.after = tuple(after.index(letter) for letter in usual)

    def forward(self, image: Tensor) -> Tensor:
        """Return the output (N, outputs, *extent) for `image` (N, channels, *extent)."""
        output: Tensor = self.network(image.permute(self.before))
        return output.permute(self.after)
