"""The locality of U-Nets: the table's figures, and what NaN shows on real networks."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from conftest import random_unet

from exactile.geometry import Halo
from exactile.locality import analyze
from exactile.locality.unet import formula_radius, unet_locality, unet_radius

CASES = [(4, 2, 3), (3, 3, 3), (1, 1, 3), (1, 3, 3), (2, 2, 3), (2, 3, 3), (2, 1, 5), (3, 1, 3)]


@pytest.mark.parametrize(("depth", "convolutions", "kernel_size"), CASES)
def test_nan_beyond_the_radius_never_reaches_a_zone_and_at_the_radius_does(
    depth: int, convolutions: int, kernel_size: int
) -> None:
    alignment = 2**depth
    radius = unet_radius(depth, convolutions, kernel_size)
    start = -(-radius // alignment) * alignment + alignment
    zone = slice(start, start + alignment)
    network = random_unet(
        base_width=2, depth=depth, convolutions=convolutions, kernel_size=kernel_size
    )
    image = torch.randn(1, 1, start + alignment + start, alignment)
    for poisoned, reached in (
        (slice(0, start - radius), False),
        (slice(0, start - radius + 1), True),
        (slice(zone.stop + radius, None), False),
        (slice(zone.stop + radius - 1, None), True),
    ):
        poison = image.clone()
        poison[:, :, poisoned] = torch.nan
        with torch.inference_mode():
            assert bool(network(poison)[:, :, zone].isnan().any()) is reached


def test_radii_are_those_of_the_table(shared: Path) -> None:
    with (shared / "reference/tables/radii.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["architecture"].startswith("U-Net")]
    assert len(rows) == 8
    for row in rows:
        words = row["architecture"].split()
        depth, convolutions = int(words[2]), int(words[4])
        locality = unet_locality(depth, convolutions)
        assert unet_radius(depth, convolutions) == int(row["needed_low"]) == int(row["needed_high"])
        assert formula_radius(depth, convolutions) == int(row["formula_radius"])
        assert {h.low for h in locality.halo} == {int(row["needed_rounded_low"])}
        assert {h.high for h in locality.halo} == {int(row["needed_rounded_high"])}
        assert set(locality.alignment) == {int(row["F"])}


def test_the_published_formula_is_too_small_for_a_shallow_network() -> None:
    assert formula_radius(1, 1) == 4
    assert unet_radius(1, 1) == 5


@pytest.mark.parametrize(("depth", "convolutions", "kernel_size"), CASES)
def test_the_rule_for_unets_says_what_tracing_their_operators_says(
    depth: int, convolutions: int, kernel_size: int
) -> None:
    network = random_unet(
        base_width=1, depth=depth, convolutions=convolutions, kernel_size=kernel_size
    )
    found = analyze(network, channels=1)
    radius = unet_radius(depth, convolutions, kernel_size)
    rule = unet_locality(depth, convolutions, kernel_size)
    assert (found.locality.alignment, found.locality.halo) == (rule.alignment, rule.halo)
    assert found.needed == (Halo(radius, radius),) * 2
