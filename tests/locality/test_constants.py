"""What does not depend on the image may depend on its size: then tiles would get another value."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from locality_brute import Function, single_thread  # noqa: F401
from torch import nn

from exactile.errors import ModelError
from exactile.geometry import Halo
from exactile.locality import NotLocal, analyze

BY_SIZE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a tensor of the size": lambda x: x / torch.tensor(float(x.shape[2])),
    "a new tensor of the size": lambda x: x / x.new_tensor(x.shape[2]),
    "a fill of the size": lambda x: x * torch.full((1,), x.shape[2]),
    "the number of ones": lambda x: x / torch.ones_like(x).sum(),
    "the last of a running sum": lambda x: x / torch.ones(x.shape[2]).cumsum(0)[-1],
    "the length of ones": lambda x: x / torch.ones(x.shape[2]).norm(),
    "a product of ones": lambda x: x * (torch.ones(1, x.shape[2]) @ torch.ones(x.shape[2], 1)),
    "a dilation of the other axis": lambda x: F.conv2d(
        x, torch.ones(1, 1, 3, 3), padding=(1, x.shape[2]), dilation=(1, x.shape[2])
    ),
    "a number in a product": lambda x: torch.addmm(
        torch.ones(1), x[0, 0], torch.ones(x.shape[3], x.shape[3]), alpha=x.shape[2]
    )[None, None],
}


@pytest.mark.parametrize("name", BY_SIZE)
def test_a_number_made_from_the_size_is_refused(name: str) -> None:
    with pytest.raises(NotLocal):
        analyze(Function(BY_SIZE[name]), 1)


SIZES = 97
"""Entries of each table; the size picks one of them."""

CHOSEN: dict[str, tuple[Callable[[], nn.Module], Callable[..., torch.Tensor]]] = {
    "convolution": (lambda: nn.Conv2d(1, 1, 1), lambda x, part: part(x)),
    "batch norm": (lambda: nn.BatchNorm2d(1), lambda x, part: part(x)),
    "factor": (lambda: nn.PReLU(), lambda x, part: x * part.weight),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_a_weight_chosen_by_the_size_is_refused(name: str) -> None:
    make, use = CHOSEN[name]

    def choose(x: torch.Tensor, *parts: nn.Module) -> torch.Tensor:
        return use(x, parts[x.shape[2] % SIZES])

    with pytest.raises(NotLocal):
        analyze(Function(choose, *(make() for _ in range(SIZES))), 1)


def test_an_entry_of_a_table_chosen_by_the_size_is_refused() -> None:
    table = nn.Linear(1, SIZES)

    def sliced(x: torch.Tensor, table: nn.Module) -> torch.Tensor:
        place = x.shape[2] % SIZES
        return x * table.bias[place : place + 1]

    def selected(x: torch.Tensor, table: nn.Module) -> torch.Tensor:
        return x * table.bias[x.shape[2] % SIZES]

    for function in (sliced, selected):
        with pytest.raises(NotLocal):
            analyze(Function(function, table), 1)


class Decided(nn.Module):
    """Decides by a tensor that it holds, as networks found by a search do."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = torch.tensor([1, 0])
        self.register_buffer("twice", torch.tensor(True))
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for node in self.nodes:
            if node == 1:
                x = self.conv(x)
        return self.conv(x) if self.twice else x


def test_a_decision_by_constants_is_followed() -> None:
    for module in (Decided(), torch.jit.script(Decided())):
        assert analyze(module, 1).needed == (Halo(2, 2),) * 2


def test_values_computed_from_the_size_decide_nothing() -> None:
    module = Function(lambda x: x * torch.arange(x.shape[2]).sum().item())
    with pytest.raises(NotLocal, match="from the image's size"):
        analyze(module, 1)


def test_weights_keep_their_values_when_they_are_computed_with() -> None:
    def standardized(x: torch.Tensor, conv: nn.Module) -> torch.Tensor:
        weight = conv.weight - conv.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight / weight.std(), padding=1)

    conv = nn.Conv2d(1, 2, 3)
    before = conv.weight.clone()
    assert analyze(Function(standardized, conv), 1).needed == (Halo(1, 1),) * 2
    assert torch.equal(conv.weight, before)


def test_whatever_a_network_raises_on_its_input_is_told() -> None:
    def missing(x: torch.Tensor) -> torch.Tensor:
        return {"out": x}["logits"]

    with pytest.raises(ModelError, match="logits"):
        analyze(Function(missing), 1)


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "layer"])
def test_weights_may_be_standardised_by_any_normalisation(norm: str) -> None:
    class Standardised(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows = self.weight.reshape(1, self.out_channels, -1)
            made = {
                "batch": lambda: F.batch_norm(rows, None, None, training=True),
                "instance": lambda: F.instance_norm(rows),
                "group": lambda: F.group_norm(rows, self.out_channels),
                "layer": lambda: F.layer_norm(rows, rows.shape[-1:]),
            }[norm]()
            return F.conv2d(x, made.reshape(self.weight.shape), self.bias, padding=1)

    network = nn.Sequential(Standardised(1, 4, 3), nn.ReLU(), Standardised(4, 2, 3))
    (axis, _) = analyze(network, 1).locality.axes
    assert (axis.alignment, axis.halo) == (1, Halo(2, 2))
