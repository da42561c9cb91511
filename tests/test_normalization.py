"""Whole-image statistics: exact for integers, the same for any order of reading."""

from __future__ import annotations

import json
from dataclasses import asdict
from fractions import Fraction
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import noise_image, write_image
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from exactile.errors import ImageError
from exactile.geometry import Interval
from exactile.images import Plane, open_source
from exactile.normalization import fit, fit_array, normalize
from exactile.normalization.blocks import LARGEST
from exactile.normalization.sums import ChannelIntegers, IntegerSums, Statistics
from exactile.padding import reflect
from exactile.processing import (
    NIST_ZSCORE,
    Before,
    Clip,
    Linear,
    ScaleRange,
    Sigmoid,
    Standardize,
    ZScore,
)

INTEGERS = [np.uint8, np.uint16, np.uint32, np.int8, np.int16, np.int32]
PLANE = Plane(0, 0)


def fit_file(
    path: Path, pixels: NDArray[Any], *steps: Before, channels: tuple[int, ...] = (0,)
) -> tuple[Any, ...]:
    """What is measured on a file of `pixels` (T, C, Z, Y, X), or its last axes."""
    with open_source(write_image(path / "a.ome.tif", pixels)) as source:
        return fit(steps, source, PLANE, channels)


@given(st.data(), st.sampled_from(INTEGERS))
def test_integer_statistics_are_exact(data: st.DataObject, dtype: type) -> None:
    pixels = data.draw(arrays(dtype, st.tuples(st.integers(1, 9), st.integers(1, 9))))
    values = [int(v) for v in pixels.ravel()]
    mean = Fraction(sum(values), len(values))
    variance = sum((v - mean) ** 2 for v in values) / len(values)
    found = IntegerSums.of(pixels).statistics()
    assert found == Statistics(float(mean), sqrt(variance))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_extreme_values_of_a_large_block_do_not_overflow(dtype: type) -> None:
    info = np.iinfo(dtype)
    pixels = np.full((2048, 1024), info.max, dtype)
    pixels[::2] = info.min
    found = IntegerSums.of(pixels).statistics()
    assert found.mean == (int(info.max) + int(info.min)) / 2
    assert found.deviation == (int(info.max) - int(info.min)) / 2


@given(st.sampled_from(INTEGERS), st.integers(1, 40), st.integers(0, 99))
def test_integer_sums_do_not_depend_on_the_blocks(dtype: type, step: int, seed: int) -> None:
    pixels = noise_image((2, 40, 50), seed, dtype)
    blocks = [pixels[:, i : i + step] for i in range(0, 40, step)]
    sums = ChannelIntegers()
    assert sums.gather(blocks[::-1]) == sums.gather([pixels])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_statistics_of_a_file_are_those_of_its_pixels(tmp_path: Path, dtype: type) -> None:
    pixels = noise_image((2, 1100, 1500), dtype=dtype)
    (found,) = fit_file(tmp_path, pixels[:, None], ZScore(), channels=(1, 0))
    whole = pixels[::-1].astype(np.float64)
    assert found.mean == pytest.approx(whole.mean((1, 2)), rel=1e-12)
    assert found.deviation == pytest.approx(whole.std((1, 2)), rel=1e-12)


STEPS = {
    "z-score": (NIST_ZSCORE,),
    "z-score of the image": (ZScore("image", epsilon=1e-6),),
    "percentiles": (ScaleRange(1, 99.8, epsilon=1e-6),),
    "percentiles of the image": (ScaleRange(3, 90, "image"),),
    "extremes": (ScaleRange(),),
    "percentiles of scaled pixels": (Linear((0.5,), (3.0,)), ScaleRange(1, 99), Sigmoid()),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    # Sums of floats depend on the chunks.
    [(n, d) for n in STEPS for d in INTEGERS[:3]]
    + [(n, np.float64) for n in STEPS if "z-score" not in n],
)
def test_a_file_and_the_same_array_give_the_same_numbers(
    tmp_path: Path, name: str, dtype: type
) -> None:
    pixels = noise_image((2, 1100, 1050), dtype=dtype)
    found = fit_file(tmp_path, pixels[:, None], *STEPS[name], channels=(0, 1))
    assert found == fit_array(STEPS[name], pixels)
    assert found == fit_array(STEPS[name], pixels, (500, 333))


@pytest.mark.parametrize("scope", ["channel", "image"])
def test_floating_pixels_in_the_same_chunks_give_the_same_sums(tmp_path: Path, scope: Any) -> None:
    pixels = noise_image((2, 1100, 1050), dtype=np.float32) / np.float32(7)
    steps = (ZScore(scope),)
    with open_source(write_image(tmp_path / "a.ome.tif", pixels[:, None])) as source:
        found = fit(steps, source, PLANE, (0, 1))
        chunk = source.chunk
    assert found == fit_array(steps, pixels, chunk)
    (whole,) = fit_array(steps, pixels)
    assert isinstance(whole, Standardize)
    assert found[0].deviation == pytest.approx(whole.deviation, rel=1e-12)


@given(
    arrays(np.uint8, (2, 4, 5)),
    st.sampled_from([ZScore(), ZScore(epsilon=0.5), ScaleRange(), ScaleRange(10, 60, epsilon=0.1)]),
    st.sampled_from([(), (Linear((3.0, -0.5), (1.0, 0.0)), Clip(-3, 100))]),
    st.sampled_from(["channel", "image"]),
)
def test_a_step_is_measured_on_what_the_steps_before_it_leave(
    pixels: NDArray[Any], step: ZScore | ScaleRange, before: tuple[Any, ...], scope: Any
) -> None:
    values = pixels.astype(np.float64)
    if before:
        gain, offset = np.array([3.0, -0.5])[:, None, None], np.array([1.0, 0.0])[:, None, None]
        values = np.clip(values * gain + offset, -3, 100)
    axes = (1, 2) if scope == "channel" else (0, 1, 2)
    if isinstance(step, ZScore):
        low, spread = values.mean(axes), values.std(axes)
        step = ZScore(scope, epsilon=step.epsilon)
    else:
        low, high = np.percentile(values, (step.low, step.high), axis=axes)
        spread = high - low
        step = ScaleRange(step.low, step.high, scope, step.epsilon)
    divisor = np.where(spread + step.epsilon == 0, 1, spread + step.epsilon)
    *untouched, found = fit_array((*before, step), pixels)
    assert tuple(untouched) == before
    assert isinstance(found, Standardize)
    assert found.mean == pytest.approx(np.atleast_1d(low), rel=1e-12, abs=1e-12)
    assert found.deviation == pytest.approx(np.atleast_1d(divisor), rel=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("step", [NIST_ZSCORE, ScaleRange(), ScaleRange(1, 99), Clip(0, 1)])
def test_a_pixel_that_is_not_finite_is_named(tmp_path: Path, value: float, step: Before) -> None:
    pixels = noise_image((2, 1100, 1200), dtype=np.float32)
    pixels[1, 1050, 1100] = pixels[1, 1051, 1101] = value
    found = r"y=1050, x=1100 .*channel 1\).*1 more.*not finite"
    with pytest.raises(ImageError, match=found):
        fit_file(tmp_path, pixels[:, None], step, channels=(1,))
    with pytest.raises(ImageError, match=found):
        fit_file(tmp_path, pixels[:, None], step, channels=(0, 1))


@pytest.mark.parametrize("value", [1e200, -1e39, 3e38])
def test_values_that_float32_cannot_tell_apart_or_hold_are_refused(
    tmp_path: Path, value: float
) -> None:
    with pytest.raises(ImageError, match=r"x=1.*or beyond 8\.5e\+37"):
        fit_file(tmp_path, np.array([[0, value]]), NIST_ZSCORE)


def test_steps_that_leave_nothing_to_measure_are_named(tmp_path: Path) -> None:
    overflow = Linear((1e30,), (0.0,))
    with pytest.raises(ImageError, match=r"a\.ome\.tif: after x \* 1e\+30 .*, 1 pixels are not"):
        fit_file(tmp_path, np.array([[0.0, 1e30]]), overflow, NIST_ZSCORE)
    with pytest.raises(ImageError, match="2 pixels are not finite"):
        fit_array((Standardize((0.0,), (0.0,)), ScaleRange()), np.array([[[0, 1]]], np.uint8))


def test_the_largest_values_admitted_stay_finite(tmp_path: Path) -> None:
    pixels = np.full((40, 50), -LARGEST)
    pixels[0, 0] = LARGEST
    for step in (NIST_ZSCORE, ScaleRange(1, 100), ScaleRange()):
        assert np.isfinite(normalize(pixels[None], fit_file(tmp_path, pixels, step))).all()


def test_a_flat_image_is_only_centred() -> None:
    flat = np.array([[[7, 8], [8, 7]]], np.uint8)
    found = normalize(flat, fit_array((NIST_ZSCORE,), flat))
    assert np.array_equal(found, flat.astype(np.float32) - np.float32(7.5))


@pytest.mark.parametrize("step", [ZScore(), ScaleRange(), ScaleRange(20, 50)])
@pytest.mark.parametrize("value", [np.uint8(7), 0.1, np.float32(0.1)])
def test_an_image_of_one_value_becomes_zero(step: Before, value: float) -> None:
    pixels = np.full((1, 30, 30), value)
    assert not normalize(pixels, fit_array((step,), pixels)).any()


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.complex64])
def test_pixels_whose_sums_would_not_be_exact_are_refused(dtype: type) -> None:
    with pytest.raises(ValueError, match="have no exact statistics"):
        fit_array((NIST_ZSCORE,), np.ones((1, 3, 3), dtype))


def test_the_numbers_of_the_reference_code_have_not_changed() -> None:
    pixels = noise_image((1, 60, 70))
    values = pixels.astype(np.float64)
    (found,) = fit_array((NIST_ZSCORE,), pixels)
    assert found == Standardize((values.mean(),), (values.std(),))
    expected = pixels.astype(np.float32)
    expected -= np.float32(values.mean())
    expected /= np.float32(values.std())
    assert np.array_equal(normalize(pixels, (found,)), expected)


def test_each_channel_is_normalised_by_its_own_statistics() -> None:
    pixels = noise_image((2, 30, 30))
    found = normalize(pixels, fit_array((NIST_ZSCORE,), pixels))
    assert found.dtype == np.float32
    assert found.mean((1, 2)) == pytest.approx([0, 0], abs=1e-5)
    assert found.std((1, 2)) == pytest.approx([1, 1], rel=1e-5)


def test_fitted_steps_are_plain_values_that_json_holds() -> None:
    steps = (Clip(0, 500), ZScore(), ScaleRange(1, 99), Sigmoid())
    fitted = fit_array(steps, noise_image((2, 30, 30)))
    record = json.loads(json.dumps([asdict(step) for step in fitted]))
    assert record[1] == {"mean": list(fitted[1].mean), "deviation": list(fitted[1].deviation)}


@given(st.integers(1, 40), st.integers(0, 90), st.integers(0, 90))
def test_reflection_by_index_is_numpys(size: int, start: int, length: int) -> None:
    image = np.arange(size)
    padded = np.pad(image, (0, 200), mode="reflect")
    found = image[reflect(Interval(start, start + length), size)]
    assert np.array_equal(found, padded[start : start + length])
