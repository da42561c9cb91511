"""Equation 2 of the papers, from any network's operators, gives the radii that they print."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from locality_brute import Function
from locality_networks import UNet, fc_densenet
from torch import nn

from exactile.errors import ModelError
from exactile.locality.formulas import formula_radius_of, radius_along
from exactile.locality.unet import formula_radius
from exactile.models.fcn_vgg16 import FCNVGG16
from exactile.models.segnet import SegNet

# Rows of reference/tables/radii.csv: the published radius, not rounded to F.
TABLE: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "U-Net depth 4 n 2 (published)": (lambda: UNet(4, 2), 92),
    "U-Net depth 3 n 3 (modified)": (lambda: UNet(3, 3), 66),
    "U-Net depth 1 n 1": (lambda: UNet(1, 1), 4),
    "U-Net depth 1 n 3": (lambda: UNet(1, 3), 12),
    "U-Net depth 2 n 2": (lambda: UNet(2, 2), 20),
    "U-Net depth 2 n 3": (lambda: UNet(2, 3), 30),
    "U-Net depth 3 n 4": (lambda: UNet(3, 4), 88),
    "U-Net depth 4 n 8": (lambda: UNet(4, 8), 368),
    "FC-DenseNet-56": (lambda: fc_densenet(56), 377),
    "FC-DenseNet-67": (lambda: fc_densenet(67), 471),
    "FC-DenseNet-103": (lambda: fc_densenet(103), 1109),
    "SegNet": (lambda: SegNet(base_width=2), 180),
    "FCN-VGG16": (lambda: FCNVGG16(base_width=2), 202),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_operators_give_the_published_radius(name: str) -> None:
    build, radius = TABLE[name]
    assert formula_radius_of(build(), 1) == (radius, radius)


def test_the_reference_table_has_the_radii_that_are_tested_here(shared: Path) -> None:
    with (shared / "reference" / "tables" / "radii.csv").open(newline="") as file:
        rows = {row["architecture"]: int(row["formula_radius"]) for row in csv.DictReader(file)}
    assert rows == {name: radius for name, (_, radius) in TABLE.items()}


@pytest.mark.parametrize(("depth", "count"), [(1, 1), (2, 3), (4, 2)])
def test_a_sum_over_the_longest_path_is_the_special_case_of_unets(depth: int, count: int) -> None:
    down = [(level, 3) for level in range(depth + 1) for _ in range(count)]
    up = [(level, 3) for level in range(depth) for _ in range(count)]
    assert radius_along(down + up) == formula_radius(depth, count)


def test_a_volume_has_a_radius_on_three_axes() -> None:
    assert formula_radius_of(UNet(2, 2, dims=3), 1, spatial_dims=3) == (20, 20, 20)


def test_each_axis_has_its_own_levels_kernels_and_dilations() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 1, (3, 7), padding=(1, 3)),
        nn.MaxPool2d((1, 4)),
        nn.Conv2d(1, 1, 3, padding=(2, 1), dilation=(2, 1)),
        nn.Upsample(scale_factor=(1, 4)),
    )
    assert formula_radius_of(module, 1) == (1 + 2, 3 + 4)


@pytest.mark.parametrize("stride", [2, 3, 5, 7])
def test_valid_convolutions_and_any_stride_leave_the_levels_exact(stride: int) -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 1, 5),
        nn.Conv2d(1, 1, 3, stride=stride),
        nn.Conv2d(1, 1, 7),
        nn.Upsample(scale_factor=stride, mode="bilinear"),
        nn.Conv2d(1, 1, 3),
    )
    assert formula_radius_of(module, 1) == (2 + 1 + 3 * stride + 1,) * 2


def test_what_is_enlarged_counts_in_parts_of_pixels_and_is_rounded_up() -> None:
    module = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 3, padding=1))
    assert formula_radius_of(module, 1) == (1, 1)


class Written(nn.Module):
    """The longest path goes through views, writes in place and an `out` argument."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(1, 2, 9, padding=4)
        self.narrow = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.wide(x)
        joined = torch.zeros_like(y)
        joined[:, :1] += y[:, 1:]
        other = torch.empty_like(y)
        torch.add(joined, 1, out=other)
        return self.narrow(F.relu_(other.permute(0, 1, 3, 2)).transpose(2, 3))


def as_exported(module: nn.Module) -> nn.Module:
    rows, columns = torch.export.Dim("rows"), torch.export.Dim("columns")
    program = torch.export.export(
        module, (torch.zeros(1, 1, 64, 48),), dynamic_shapes=({2: 4 * rows, 3: 4 * columns},)
    )
    return program.module()


FORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "eager": lambda module: module,
    "traced": lambda module: torch.jit.trace(module, torch.zeros(1, 1, 64, 48)),
    "frozen": lambda module: torch.jit.freeze(
        torch.jit.trace(module, torch.zeros(1, 1, 64, 48)).eval()
    ),
    "exported": as_exported,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_network_has_the_same_radius(form: str) -> None:
    assert formula_radius_of(FORMS[form](UNet(2, 2).eval()), 1) == (20, 20)


def test_writes_and_views_hand_the_sum_on() -> None:
    for module in (Written(), torch.jit.script(Written().eval())):
        assert formula_radius_of(module, 1) == (4 + 1, 4 + 1)


def test_constants_and_the_image_itself_have_a_sum_of_zero() -> None:
    module = Function(lambda x, conv: conv(torch.ones_like(x)) * x, nn.Conv2d(1, 1, 1))
    assert formula_radius_of(module, 1) == (0, 0)


def test_the_module_is_left_as_it_was() -> None:
    module = UNet(1, 1).train()
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    formula_radius_of(module, 1)
    assert all(part.training for part in module.modules())
    for name, value in module.state_dict().items():
        assert torch.equal(value, weights[name])


def test_a_network_that_cannot_run_is_an_error_that_says_so() -> None:
    with pytest.raises(ModelError, match="does not run"):
        formula_radius_of(nn.Conv2d(3, 1, 3), 1)
