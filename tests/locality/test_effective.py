"""The effective receptive field: an estimate that shows in gradients, and what it would cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_unet
from locality_brute import Function, single_thread  # noqa: F401
from PIL import Image
from torch import nn

from exactile.errors import ModelError
from exactile.geometry import Halo
from exactile.locality import analyze
from exactile.locality.effective import EffectiveField, effective_receptive_field, error_at
from exactile.report.field_picture import draw_field


def estimate(module: nn.Module, channels: int = 1, **options: int | float) -> EffectiveField:
    return effective_receptive_field(module, channels, analyze(module, channels), **options)


def decaying(far: float) -> nn.Module:
    """A convolution whose taps beside the middle are 1e-3, and `far` 9 pixels below."""
    module = nn.Conv2d(1, 1, (19, 3), padding=(9, 1))
    with torch.no_grad():
        module.weight.zero_()
        module.weight[..., 9, :] = torch.tensor([1e-3, 1.0, 1e-3])
        module.weight[..., 18, 1] = far
    return module.eval()


def small_unet() -> nn.Module:
    return random_unet(base_width=4, depth=2, convolutions=2)


def test_the_estimate_is_what_the_gradient_shows_on_each_side_of_each_axis() -> None:
    found = estimate(decaying(1e-7))
    assert found.halo == (Halo(9, 9), Halo(1, 1))
    assert found.radius == (Halo(0, 9), Halo(1, 1))
    assert found.window == found.gradient.shape == (19, 3)
    assert found.zone.shape == (1, 1)
    np.testing.assert_allclose(found.gradient[9], [1e-3, 1, 1e-3], rtol=1e-6)
    assert not found.cut


def test_what_is_below_the_threshold_does_not_count_although_it_changes_the_output() -> None:
    found = estimate(decaying(1e-9))
    assert found.radius == (Halo(0, 0), Halo(1, 1))
    assert estimate(decaying(1e-9), threshold=1e-10).radius == (Halo(0, 9), Halo(1, 1))


def test_the_gradient_is_zero_outside_the_halo_and_the_estimate_is_on_the_grid() -> None:
    module = small_unet()
    analysis = analyze(module, 1)
    # One period more on all sides than the halo has.
    wider = tuple(
        replace(axis, halo=Halo(axis.halo.low + 4, axis.halo.high + 4))
        for axis in analysis.locality.axes
    )
    locality = replace(analysis.locality, axes=wider)
    found = effective_receptive_field(module, 1, replace(analysis, locality=locality))
    assert not found.gradient[:4].any()
    assert not found.gradient[-4:].any()
    assert not found.gradient[:, :4].any()
    assert not found.gradient[:, -4:].any()
    assert found.gradient[4:-4, 4:-4].any()
    for side, halo in zip(found.radius, analysis.locality.halo, strict=True):
        assert side.low % 4 == side.high % 4 == 0
        assert side.low <= halo.low
        assert side.high <= halo.high


def test_a_window_that_is_too_large_is_cut_and_says_so() -> None:
    found = estimate(small_unet(), max_pixels=32 * 32)
    assert found.cut
    assert np.prod(found.window) <= 32 * 32
    assert found.gradient.shape == found.window
    assert all(axis.start % 4 == 0 and axis.length == 4 for axis in found.zone.axes)
    assert f"cannot exceed its window of {found.window[0]} x {found.window[1]} px" in str(found)


def test_the_line_for_people_says_that_it_is_an_estimate() -> None:
    text = str(estimate(decaying(1e-9)))
    assert text.startswith("0 x 1 px (an estimate, never a bound")
    assert "the halo is 9 x 1 px" in text
    assert "RMSE" in text


def test_the_same_seed_gives_the_same_field() -> None:
    first, second, other = (estimate(small_unet(), samples=2, seed=s) for s in (0, 0, 1))
    assert np.array_equal(first.gradient, second.gradient)
    assert not np.array_equal(first.gradient, other.gradient)


def frozen_weights(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


def as_exported(module: nn.Module) -> nn.Module:
    rows, columns = torch.export.Dim("rows"), torch.export.Dim("columns")
    program = torch.export.export(
        module, (torch.zeros(1, 1, 64, 48),), dynamic_shapes=({2: 4 * rows, 3: 4 * columns},)
    )
    return program.module()


FORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "without gradients": frozen_weights,
    "traced": lambda module: torch.jit.trace(module, torch.zeros(1, 1, 64, 48)),
    "frozen": lambda module: torch.jit.freeze(
        torch.jit.trace(module, torch.zeros(1, 1, 64, 48)).eval()
    ),
    "exported": as_exported,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_network_has_the_same_estimate(form: str) -> None:
    expected = estimate(small_unet(), samples=3)
    found = estimate(FORMS[form](small_unet()), samples=3)
    assert found.radius == expected.radius
    # Forms may fuse operators, and round differently.
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=1e-3, atol=1e-9)


def test_a_network_that_writes_into_its_input_has_an_estimate() -> None:
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(1, 1, 3, padding=1))
    assert estimate(module).radius == (Halo(1, 1),) * 2


def test_outputs_that_are_smaller_or_scaled_are_measured_from_their_own_zone() -> None:
    valid = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 1, 5))
    assert estimate(valid).radius == analyze(valid, 1).locality.halo == (Halo(0, 6),) * 2
    pooled = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.AvgPool2d(2))
    assert estimate(pooled, 2).radius == (Halo(2, 2),) * 2
    enlarged = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.PixelShuffle(2))
    assert estimate(enlarged).radius == (Halo(1, 1),) * 2


def test_the_module_is_left_in_its_modes_and_without_gradients() -> None:
    module = small_unet()
    module.down[0].train()
    modes = [part.training for part in module.modules()]
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    estimate(module, samples=2)
    assert [part.training for part in module.modules()] == modes
    assert all(weight.grad is None and weight.requires_grad for weight in module.parameters())
    for name, value in module.state_dict().items():
        assert torch.equal(value, weights[name])


def test_volumes_and_outputs_without_a_gradient_are_refused() -> None:
    volume = nn.Conv3d(1, 1, 3, padding=1)
    with pytest.raises(ValueError, match="3 axes"):
        effective_receptive_field(volume, 1, analyze(volume, 1, 3))
    labels = Function(lambda x: x.argmax(1, keepdim=True))
    with pytest.raises(ModelError, match="there is none"):
        estimate(labels, 2)


def test_the_networks_own_halo_makes_no_error_and_a_smaller_one_does() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(4, 3, 3, padding=1),
    ).double()
    analysis = analyze(module, 1)
    exact = error_at(module, 1, analysis, analysis.locality.halo)
    assert exact is not None
    assert exact.rmse < 1e-7
    assert exact.labels == 0
    none = error_at(module, 1, analysis, (Halo(0, 0),) * 2)
    assert none is not None
    assert none.rmse > 1e-3
    assert none.labels > 0
    assert exact.positions <= none.positions


def test_valid_convolutions_keep_the_halo_without_which_there_is_no_output() -> None:
    module = nn.Conv2d(1, 2, 5)
    found = error_at(module, 1, analyze(module, 1), (Halo(0, 0),) * 2)
    assert found is not None
    assert found.halo == (Halo(0, 4),) * 2
    assert found.rmse < 1e-6


def test_an_error_that_takes_too_large_an_image_is_not_measured() -> None:
    module = small_unet()
    assert error_at(module, 1, analyze(module, 1), (Halo(0, 0),) * 2, max_pixels=1000) is None


def test_the_error_is_measured_only_where_the_estimate_is_less_than_the_halo() -> None:
    assert estimate(nn.Conv2d(1, 1, 3, padding=1)).error is None
    error = estimate(decaying(1e-2), threshold=0.1).error
    assert error is not None
    assert error.halo == (Halo(0, 0), Halo(0, 0))
    assert error.rmse > 0


@pytest.mark.parametrize("max_pixels", [1 << 18, 32 * 32])
def test_the_picture_shows_the_gradient_and_is_the_same_every_time(
    tmp_path: Path, max_pixels: int
) -> None:
    found = estimate(small_unet(), samples=2, max_pixels=max_pixels)
    draw_field(found, tmp_path / "first.png", (20, 20))
    draw_field(found, tmp_path / "second.png", (20, 20))
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    with Image.open(tmp_path / "first.png") as picture:
        assert picture.width > picture.height > 600
        assert len(picture.getcolors(1 << 24)) > 50


def test_a_field_without_any_gradient_is_drawn(tmp_path: Path) -> None:
    found = estimate(Function(lambda x: torch.round(x)))
    assert found.radius == (Halo(0, 0),) * 2
    draw_field(found, tmp_path / "field.png")
    assert (tmp_path / "field.png").is_file()
