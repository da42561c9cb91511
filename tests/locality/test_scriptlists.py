"""Tensors that TorchScript makes of lists: fixed ones are followed, any other is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from locality_brute import single_thread  # noqa: F401
from test_state import script
from torch import Tensor, nn

from exactile.errors import ModelError
from exactile.geometry import Halo
from exactile.locality import analyze
from exactile.models.formats import open_network


class Reordered(nn.Module):
    """Means and deviations as lists, and channels by an index list, in a part of the network."""

    def forward(self, x: Tensor) -> Tensor:
        mean, deviation = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])
        return ((x - mean[None, :, None, None]) / deviation[None, :, None, None])[:, [2, 1, 0]]


class OfLists(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Reordered()
        self.body = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.tensor([1.0, 2.0])
        scale[0] = 3.0
        return self.body(self.first(x)) * scale.view(1, 2, 1, 1)


def test_a_tensor_that_is_changed_after_it_was_made_is_no_constant(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = OfLists().eval()
    image = torch.rand(1, 3, 40, 50)
    expected = network(image)
    script(network).save(str(tmp_path / "model.pt"))
    with pytest.raises(ModelError, match="makes a tensor of a list"):
        open_network(tmp_path / "model.pt")
    loaded = torch.jit.load(str(tmp_path / "model.pt"))
    with pytest.raises(ModelError, match="makes a tensor of a list"):
        analyze(loaded, 3)
    assert torch.equal(loaded(image), expected)


class Fixed(OfLists):
    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.first(x)) * torch.tensor([0.5, 2.0]).view(1, 2, 1, 1)


def test_fixed_lists_change_no_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Fixed().eval()
    image = torch.rand(1, 3, 40, 50)
    script(network).save(str(tmp_path / "model.pt"))
    loaded = open_network(tmp_path / "model.pt").network
    assert analyze(loaded, 3).needed == (Halo(1, 1),) * 2
    assert torch.equal(loaded(image), network(image))


class OfASize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.tensor([1.0, float(x.size(2))])[1]


class OfAnAttribute(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factors = [1.0, 2.0]

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.tensor(self.factors)[1]


@pytest.mark.parametrize("kind", [OfASize, OfAnAttribute])
def test_a_tensor_of_another_list_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(ModelError, match="makes a tensor of a list"):
        analyze(script(kind()), 1)
