"""Whole-image statistics: exact for integers, the same for any order of reading."""

from __future__ import annotations

from fractions import Fraction
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from conftest import noise_image, write_image
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from exactile.errors import ImageError
from exactile.geometry import Interval
from exactile.images import Plane, open_source
from exactile.normalization import (
    LARGEST,
    IntegerSums,
    Statistics,
    image_statistics,
    normalize,
    statistics_of_blocks,
)
from exactile.padding import reflect

INTEGERS = [np.uint8, np.uint16, np.uint32, np.int8, np.int16, np.int32]


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
    pixels = noise_image((40, 50), seed, dtype)
    blocks = [pixels[i : i + step] for i in range(0, 40, step)]
    assert statistics_of_blocks(iter(blocks[::-1])) == statistics_of_blocks(iter([pixels]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_statistics_of_a_file_are_those_of_its_pixels(tmp_path: Path, dtype: type) -> None:
    pixels = noise_image((2, 1100, 1500), dtype=dtype)
    path = write_image(tmp_path / "a.ome.tif", pixels[:, None])
    with open_source(path) as source:
        for channel in range(2):
            found = image_statistics(source, Plane(0, 0), channel)
            whole = pixels[channel].astype(np.float64)
            assert found.mean == pytest.approx(whole.mean(), rel=1e-12)
            assert found.deviation == pytest.approx(whole.std(), rel=1e-12)
            assert image_statistics(source, Plane(0, 0), channel) == found


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pixel_that_is_not_finite_is_named(tmp_path: Path, value: float) -> None:
    pixels = noise_image((1100, 1200), dtype=np.float32)
    pixels[1050, 1100] = pixels[1051, 1101] = value
    path = write_image(tmp_path / "a.ome.tif", pixels)
    with (
        open_source(path) as source,
        pytest.raises(ImageError, match=r"y=1050, x=1100.*1 more.*not finite"),
    ):
        image_statistics(source, Plane(0, 0), 0)


@pytest.mark.parametrize("value", [1e200, -1e39, 3e38])
def test_values_that_float32_cannot_tell_apart_or_hold_are_refused(
    tmp_path: Path, value: float
) -> None:
    path = write_image(tmp_path / "a.ome.tif", np.array([[0, value]]))
    with open_source(path) as source, pytest.raises(ImageError, match=r"x=1.*or beyond 8\.5e\+37"):
        image_statistics(source, Plane(0, 0), 0)


def test_the_largest_values_admitted_stay_finite(tmp_path: Path) -> None:
    pixels = np.full((40, 50), -LARGEST)
    pixels[0, 0] = LARGEST
    path = write_image(tmp_path / "a.ome.tif", pixels)
    with open_source(path) as source:
        found = image_statistics(source, Plane(0, 0), 0)
    assert np.isfinite(normalize(pixels[None], (found,))).all()


def test_a_flat_image_is_only_centred() -> None:
    flat = np.array([[[7, 8], [8, 7]]], np.uint8)
    statistics = (IntegerSums.of(flat).statistics(),)
    assert np.array_equal(normalize(flat, statistics), flat.astype(np.float32) - np.float32(7.5))


def test_each_channel_is_normalised_by_its_own_statistics() -> None:
    pixels = noise_image((2, 30, 30))
    statistics = tuple(statistics_of_blocks(iter([c])) for c in pixels)
    found = normalize(pixels, statistics)
    assert found.dtype == np.float32
    assert found.mean((1, 2)) == pytest.approx([0, 0], abs=1e-5)
    assert found.std((1, 2)) == pytest.approx([1, 1], rel=1e-5)


@given(st.integers(1, 40), st.integers(0, 90), st.integers(0, 90))
def test_reflection_by_index_is_numpys(size: int, start: int, length: int) -> None:
    image = np.arange(size)
    padded = np.pad(image, (0, 200), mode="reflect")
    found = image[reflect(Interval(start, start + length), size)]
    assert np.array_equal(found, padded[start : start + length])
