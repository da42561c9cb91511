"""Poison outside a zone's claimed dependency proves a right claim and exposes a wrong one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from locality_brute import Function, single_thread  # noqa: F401
from locality_networks import UNet, fc_densenet
from torch import nn

from exactile.errors import ModelError
from exactile.geometry import AxisLocality, Halo, Locality
from exactile.locality import analyze
from exactile.locality.poison import Proof, prove


def test_a_unet_is_proven_inside_at_edges_and_in_corners_and_its_halo_is_the_least() -> None:
    module = UNet(2, 2)
    proof = prove(module, analyze(module, 1), 1)
    assert proof.holds
    assert sorted(zone.place for zone in proof.zones) == (
        ["corner"] * 4 + ["edge"] * 4 + ["interior"]
    )
    assert proof.minimal == ((True, True), (True, True))
    assert proof.passes == 1 + 9 + 5 + 2 + 4
    assert module.training


@pytest.mark.parametrize("side", ["low", "high"])
def test_a_halo_that_is_one_period_short_is_exposed(side: str) -> None:
    module = UNet(1, 3)
    found = analyze(module, 1)
    right = found.locality.axes[0]
    short = replace(right.halo, **{side: getattr(right.halo, side) - right.alignment})
    wrong = Locality((AxisLocality(right.alignment, short), found.locality.axes[1]))
    proof = prove(module, replace(found, locality=wrong), 1)
    assert not proof.holds
    interior = next(zone for zone in proof.zones if zone.place == "interior")
    assert not interior.clean
    assert not interior.equal_nan


def test_finite_poison_shows_what_hides_nan() -> None:
    """The sum over all positions goes through an operator that swallows NaN."""
    module = Function(lambda x: x + torch.nan_to_num(x.sum((2, 3), keepdim=True)))
    claimed = replace(analyze(nn.Identity(), 1), locality=Locality.isotropic(1, Halo(0, 0)))
    interior = next(z for z in prove(module, claimed, 1).zones if z.place == "interior")
    assert interior.clean
    assert not interior.equal_finite
    assert not interior.holds


def test_a_generous_halo_is_reported_as_not_the_least() -> None:
    module = nn.Conv2d(1, 1, 3, padding=1)
    found = analyze(module, 1)
    generous = replace(found, locality=Locality.isotropic(1, Halo(3, 1)))
    proof = prove(module, generous, 1)
    assert proof.holds
    assert proof.minimal == ((False, True), (False, True))


def test_a_halo_too_large_for_one_image_is_proven_in_strips() -> None:
    module = fc_densenet(56)
    proof = prove(module, analyze(module, 1), 1, max_pixels=1 << 17)
    assert proof.holds
    assert {zone.extent for zone in proof.zones} == {(896, 64), (64, 896)}
    assert {zone.place for zone in proof.zones} == {"edge", "interior"}
    assert proof.minimal == ((True, True), (True, True))


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 1, 3)),
        nn.Conv2d(1, 1, 3, 2, 1),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.PixelUnshuffle(2)),
    ],
    ids=["valid", "half", "double", "unshuffled"],
)
def test_cropped_and_scaled_outputs_are_proven_too(module: nn.Module) -> None:
    proof = prove(module, analyze(module, 1), 1)
    assert proof.holds
    assert any(zone.place == "interior" for zone in proof.zones)


def test_a_volume_is_proven() -> None:
    module = UNet(1, 1, dims=3)
    proof = prove(module, analyze(module, 1, 3), 1)
    assert proof.holds
    assert len(proof.zones) == 27
    assert sum(zone.place == "corner" for zone in proof.zones) == 8


def test_the_same_seed_gives_the_same_proof() -> None:
    module = UNet(1, 1)
    found = analyze(module, 1)

    def facts() -> Proof:
        return replace(prove(module, found, 1, seed=3), seconds=0.0)

    assert facts() == facts()


def test_a_network_that_returns_nan_proves_nothing() -> None:
    module = Function(lambda x: F.relu(x) / 0)
    with pytest.raises(ModelError, match="NaN"):
        prove(module, analyze(nn.Identity(), 1), 1)


EATERS = {
    "far pixels above a threshold": lambda x: F.relu(torch.nan_to_num(far(x)) - 1000) * 0.001,
    "far pixels below a threshold": lambda x: F.relu(-torch.nan_to_num(far(x)) - 1000) * 0.001,
    "a comparison": lambda x: (far(x) > 60_000).float(),
    "whole numbers": lambda x: torch.nan_to_num(far(x)).clamp(-9, 9).to(torch.int32).float(),
    "a choice": lambda x: torch.where(far(x) > 500, 1.0, 0.0),
    "an average above a threshold": lambda x: (torch.nan_to_num(x).mean((2, 3)) > 1000).float(),
    "the place of the largest": lambda x: torch.nan_to_num(x).flatten(1).argmax(1).float()[:, None],
    "what bright pixels of the zone switch on": lambda x: (x > 1000) * far(x).clamp(0, 1),
}


def far(x: torch.Tensor) -> torch.Tensor:
    """Return the first pixel of every image."""
    return x[:, :, :1, :1]


@pytest.mark.parametrize("kind", EATERS)
def test_what_eats_nan_is_shown_by_finite_numbers(kind: str) -> None:
    eater = EATERS[kind]

    def forward(x: torch.Tensor) -> torch.Tensor:
        eaten = eater(x)
        return x + (eaten if eaten.ndim == 4 else eaten[..., None, None])

    claimed = replace(analyze(nn.Identity(), 1), locality=Locality.isotropic(2, Halo(2, 2)))
    assert not prove(Function(forward), claimed, 1).holds


def test_one_channel_of_several_is_proven_where_zones_are_single_pixels() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), Function(lambda x: x.softmax(1)[:, 1:2]))
    proof = prove(module, analyze(module, 1), 1)
    assert proof.holds
    assert all(zone.zone.size == 1 for zone in proof.zones)
