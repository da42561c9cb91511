"""Which operators of a network have an order of arithmetic that is known, asked without data."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exactile.engine import EngineName
from exactile.known_order import unknown_order


class PadsByDifferences(nn.Module):
    """A U-Net that pads what it up-samples to the size of its skip."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(1, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, 2)
        self.last = nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        fine = F.relu(self.fine(x))
        up = self.up(F.max_pool2d(fine, 2))
        rows, columns = fine.size(2) - up.size(2), fine.size(3) - up.size(3)
        around = [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2]
        made: Tensor = self.last(torch.cat([fine, F.pad(up, around)], 1))
        return made


@pytest.mark.parametrize("engine", ["eager", "openvino"])
@pytest.mark.parametrize("sides", [(96, 96), (97, 63)])
def test_a_traced_network_that_computes_with_sizes_can_be_asked(
    engine: EngineName, sides: tuple[int, int]
) -> None:
    """Traced sizes are tensors, and keep their values where nothing else has any."""
    network = torch.jit.trace(PadsByDifferences().eval(), torch.randn(1, 1, 65, 67))
    assert unknown_order(engine, network, 1, sides) == ()


def test_an_operator_without_an_order_is_named() -> None:
    class Bessel(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x)

    assert unknown_order("eager", Bessel(), 1, (8, 8)) == ("aten.special_bessel_j0",)
