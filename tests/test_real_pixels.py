"""Pixels of the image itself, computed once more in windows of another place and size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from exactile.bit_stability import BitStability
from exactile.certificate import claim
from exactile.engines.eager import make_engine
from exactile.finishing import Finishing
from exactile.forward import ForwardPass
from exactile.geometry import AxisLocality, Box, Halo, Locality
from exactile.locality import analyze
from exactile.real_pixels import RealPixelCheck, RealPixels, lowered, other_window
from exactile.tiling import Plan, Tile, plan
from exactile.verification import VerificationError

PATH = Path("image.ome.tif")
STABLE = BitStability(True, 10, 0, 0.0, 0, (64, 64), (80, 80))


class Network(nn.Module):
    """F of 2, a halo of a few pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 5, padding=2)
        self.last = nn.ConvTranspose2d(4, 2, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(nn.functional.max_pool2d(self.first(x), 2))
        return y


def run_all(network: nn.Module, locality: Locality, finishing: Finishing) -> RealPixels | None:
    """Run an image of whole numbers in windows, and compare its own pixels."""
    engine = make_engine(network.eval(), torch.device("cpu"), "float32")
    image = np.random.default_rng(0).integers(0, 9, (1, 190, 154)).astype(np.float32)

    def read(window: Box) -> NDArray[np.float32]:
        return np.ascontiguousarray(image[window.slices])

    run = ForwardPass(engine, "logits", finishing)
    tiling, check = plan((190, 154), locality, 48), RealPixelCheck(engine)
    for tile in tiling.tiles():
        pixels = read(tile.window)
        sample = check.look(tiling, tile, pixels, read)
        if sample is not None:
            check.keep(sample, run(pixels, tile.crop))
    return check.compare(PATH, run)


@pytest.fixture
def finishing() -> Finishing:
    """Logits stay as they are."""
    return Finishing(after=())


def test_windows_of_another_place_and_size_give_the_same(finishing: Finishing) -> None:
    torch.manual_seed(0)
    network = Network()
    found = run_all(network, analyze(network, 1).locality, finishing)
    assert found is not None
    assert found.zones >= 1
    assert found.compared > 0
    assert found.different == 0
    assert found.window != (48, 48)


def test_a_halo_that_is_too_small_is_no_rounding(finishing: Finishing) -> None:
    torch.manual_seed(0)
    network = Network()
    right = analyze(network, 1).locality
    short = replace(right, axes=tuple(replace(a, halo=Halo(0, 0)) for a in right.axes))
    with pytest.raises(VerificationError, match="no rounding"):
        run_all(network, short, finishing)


def test_a_period_that_is_too_small_is_no_rounding(finishing: Finishing) -> None:
    torch.manual_seed(0)
    network = Network()
    wrong = Locality((AxisLocality(1, Halo(5, 5)),) * 2)
    with pytest.raises(VerificationError, match="no rounding"):
        run_all(network, wrong, finishing)


def test_one_window_has_nothing_to_be_compared_with(finishing: Finishing) -> None:
    engine = make_engine(Network().eval(), torch.device("cpu"), "float32")
    tiling = plan((40, 40), Locality.isotropic(2, Halo(4, 4)), 64)
    tile = next(tiling.tiles())
    pixels = np.zeros((1, 40, 40), np.float32)
    assert RealPixelCheck(engine).look(tiling, tile, pixels, lambda _: pixels) is None


AXES = st.tuples(
    st.sampled_from([1, 2, 4, 16]), st.integers(0, 3), st.integers(0, 3), st.integers(60, 900)
)


@given(y=AXES, x=AXES, small=st.booleans(), data=st.data())
@settings(max_examples=150, deadline=None)
def test_another_window_holds_what_its_part_depends_on(
    y: tuple[int, int, int, int],
    x: tuple[int, int, int, int],
    small: bool,
    data: st.DataObject,
) -> None:
    locality = Locality(tuple(AxisLocality(f, Halo(f * a, f * b)) for f, a, b, _ in (y, x)))
    tiling: Plan = plan((y[3], x[3]), locality, 160)
    tiles: list[Tile] = list(tiling.tiles())
    tile = data.draw(st.sampled_from(tiles))
    centre = tuple(data.draw(st.integers(side.start, side.stop - 1)) for side in tile.window.axes)
    other = other_window(tiling, tile, centre, small=small)
    if other is None:
        return
    assert other.window != tile.window
    assert other.zone in tile.zone
    assert other.zone.size > 0
    assert other.window in Box.of_shape(tiling.extent)
    for axis, zone, window in zip(tiling.axes, other.zone.axes, other.window.axes, strict=True):
        assert window.start % axis.locality.alignment == 0
        located = axis.locality
        low = zone.start // located.step * located.alignment - located.halo.low
        high = -(-zone.stop // located.step) * located.alignment + located.halo.high
        assert window.start <= max(low, 0)
        assert window.stop >= min(high, axis.extent)


def test_a_rounding_on_real_pixels_lowers_the_claim() -> None:
    same = RealPixels(2, (64, 64), 100, 0, 0.0)
    rounded = RealPixels(2, (64, 64), 100, 3, 2e-6)
    assert "bit for bit" in claim("float32", lowered(STABLE, same), None, same)
    lower = claim("float32", lowered(STABLE, rounded), None, rounded)
    assert "bit for bit" not in lower
    assert "2.0e-06" in lower


def test_an_operator_of_unknown_order_lowers_the_claim() -> None:
    unknown = replace(STABLE, equal=False, unknown=("aten.special_bessel_j0",))
    text = claim("float32", unknown, None)
    assert "bit for bit" not in text
    assert "aten.special_bessel_j0" in text
