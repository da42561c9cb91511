"""Where the output of a network lies, how large it is, and what made it."""

from __future__ import annotations

from fractions import Fraction

import torch
import torch.nn.functional as F
from locality_brute import Function, single_thread  # noqa: F401
from torch import nn

from exactile.geometry import Halo
from exactile.locality import analyze


def test_valid_convolutions_give_a_crop_and_strides_a_scale() -> None:
    found = analyze(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 5)), 1)
    assert found.crop == (Halo(3, 3),) * 2
    assert found.needed == (Halo(0, 6),) * 2
    assert analyze(nn.Conv2d(1, 1, 2), 1).crop == (None, None)
    assert analyze(nn.Conv2d(1, 1, 3, 2, 1), 1).scale == (Fraction(1, 2),) * 2
    assert analyze(nn.ConvTranspose2d(1, 1, 4, 2, 1), 1).scale == (2, 2)
    assert analyze(nn.PixelShuffle(2), 4).scale == (2, 2)


def test_an_output_lies_where_what_it_depends_on_shows() -> None:
    def cut(start: int, stop: int | None) -> nn.Module:
        return Function(lambda x: x[:, :, start:stop])

    def of(module: nn.Module) -> Halo | None:
        found = analyze(module, 1)
        assert (found.unplaced is None) == (found.crop[0] is not None)
        assert found.locality.axes[0].crop == (found.crop[0] or Halo(0, 0))
        return found.crop[0]

    assert of(cut(4, None)) == Halo(4, 0)
    assert of(cut(0, -3)) == Halo(0, 3)
    assert of(cut(2, -1)) == Halo(2, 1)
    assert of(cut(5, -5)) == Halo(5, 5)
    assert of(nn.Conv2d(1, 1, 7)) == Halo(3, 3)
    assert of(nn.Conv2d(1, 1, 2)) is None
    assert of(nn.Conv2d(1, 1, 3, padding=2)) is None, "the output is larger than the image"
    coarse = nn.Sequential(nn.MaxPool2d(16), nn.Upsample(scale_factor=16))
    assert of(nn.Sequential(coarse, cut(4, -4))) == Halo(4, 4)
    assert of(nn.Sequential(coarse, cut(4, None))) is None, "2 px off, far less than F"
    assert of(nn.Sequential(*(nn.Conv2d(1, 1, 3, 2) for _ in range(3)))) == Halo(4, 4)


def test_the_operator_that_made_the_output_is_named() -> None:
    body = nn.Conv2d(1, 2, 3, padding=1)
    assert analyze(body, 1).last == "aten.convolution"
    assert analyze(nn.Sequential(body, nn.Sigmoid()), 1).last == "aten.sigmoid"
    assert analyze(nn.Sequential(body, nn.Softmax(1)), 1).last == "aten._softmax"
    cut = Function(lambda x, conv: torch.sigmoid(conv(x))[:, :, 1:-1].contiguous(), body)
    assert analyze(cut, 1).last == "aten.sigmoid"
    assert analyze(body, 1).outputs == 2


def test_branches_computed_later_do_not_name_the_output_and_moves_keep_its_name() -> None:
    def two_heads(x: torch.Tensor, body: nn.Module) -> torch.Tensor:
        result = torch.sigmoid(body(x))
        body(x).relu()
        return result

    def pasted(x: torch.Tensor, body: nn.Module) -> torch.Tensor:
        result = torch.zeros(1, 2, *x.shape[2:])
        result[:, :, 2:] = torch.sigmoid(body(x))[:, :, 2:]
        return result

    def enlarged(x: torch.Tensor, body: nn.Module) -> torch.Tensor:
        halves = [torch.sigmoid(body(x)) for _ in range(2)]
        return F.interpolate(torch.cat(halves, 1), scale_factor=2, mode="bilinear")

    def mixed(x: torch.Tensor, body: nn.Module) -> torch.Tensor:
        return torch.cat([torch.sigmoid(body(x)), body(x)], 1)

    body = nn.Conv2d(1, 2, 3, padding=1)
    assert analyze(Function(two_heads, body), 1).last == "aten.sigmoid"
    assert analyze(Function(enlarged, body), 1).last == "aten.sigmoid"
    assert analyze(Function(mixed, body), 1).last == "aten.cat"
    assert analyze(Function(pasted, body), 1).last == "aten.slice_scatter"
    assert analyze(torch.jit.script(nn.Sequential(body, nn.Sigmoid())), 1).last == "aten.sigmoid"


def test_a_clamped_sigmoid_is_a_sigmoid() -> None:
    def clamped(x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x).clamp(1e-6, 1 - 1e-6)

    assert analyze(Function(clamped), 1).last == "aten.sigmoid"
