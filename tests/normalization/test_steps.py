"""Steps on single pixels: float32, the same bits wherever a pixel lies in an array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from exactile.normalization import fit_array, normalize
from exactile.normalization.apply import apply
from exactile.processing import (
    After,
    Before,
    Clip,
    Linear,
    ScaleRange,
    Sigmoid,
    Softmax,
    Standardize,
    Threshold,
    ZScore,
)

STEPS: tuple[After, ...] = (
    Standardize((100.0,), (7.0,)),
    Standardize((1.0, 2.0, 3.0), (0.3, 0.7, 11.0)),
    Linear((0.1,), (-3.0,)),
    Linear((0.1, 0.2, -0.3), (1.0, 2.0, 3.0)),
    Clip(0.0, 1.0),
    Clip(low=-0.5),
    Clip(high=2.0),
    Threshold((0.5,)),
    Threshold((0.5, 0.0, -1.0)),
    Sigmoid(),
    Softmax(),
)


def bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    return values.view(np.uint32)


@given(st.sampled_from(STEPS), st.data())
def test_a_pixel_gets_the_same_bits_in_a_part_as_in_the_whole(
    step: After, data: st.DataObject
) -> None:
    y, x = (sorted(data.draw(st.lists(st.integers(0, 70), min_size=2, max_size=2))) for _ in "yx")
    part = (slice(None), slice(y[0], y[1] + 1), slice(x[0], x[1] + 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    image = (rng.standard_normal((3, 71, 71)) * 6).astype(np.float32)
    # Zeros of both signs, and limits: what comparisons could treat by position.
    image[:, ::3, ::5] = rng.choice(np.float32([-0.0, 0.0, 1.0, -0.5, 2.0, 90, -90]), (3, 24, 15))
    whole = apply((step,), image)
    assert np.array_equal(bits(apply((step,), image[part])), bits(whole[part].copy()))
    turned = np.asfortranarray(image[part])
    assert np.array_equal(bits(apply((step,), turned)), bits(whole[part].copy()))


@pytest.mark.parametrize("step", STEPS)
def test_steps_are_what_they_say_to_float32(step: After) -> None:
    image = (np.random.default_rng(0).standard_normal((3, 20, 21)) * 9).astype(np.float32)
    x = image.astype(np.float64)

    def each(numbers: tuple[float, ...]) -> NDArray[Any]:
        return np.array(numbers)[:, None, None]

    match step:
        case Standardize(mean, deviation):
            expected = (x - each(mean)) / each(deviation)
        case Linear(gain, offset):
            expected = x * each(gain) + each(offset)
        case Clip(low, high):
            expected = np.clip(x, low, high)
        case Threshold(values):
            expected = (x > each(values)).astype(np.float64)
        case Sigmoid():
            expected = 1 / (1 + np.exp(-x))
        case Softmax():
            expected = np.exp(x) / np.exp(x).sum(0)
    found = apply((step,), image)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert found == pytest.approx(expected, rel=2e-6, abs=2e-6)


def test_far_outputs_become_certain_without_a_warning() -> None:
    far = np.array([[[1e5, -1e5]], [[-1e5, 1e5]]], np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert apply((Sigmoid(),), far).tolist() == [[[1, 0]], [[0, 1]]]
        assert apply((Softmax(),), far).tolist() == [[[1, 0]], [[0, 1]]]


def test_the_input_is_not_written_to() -> None:
    image = np.ones((1, 4, 4), np.float32)
    normalize(image, (Linear((2.0,), (0.0,)),))
    assert (image == 1).all()
    assert not np.shares_memory(image, normalize(image, ()))


def test_integers_are_rounded_to_float32_before_any_step() -> None:
    pixels = np.array([[2**24 + 1]], np.uint32)
    assert normalize(pixels, (Standardize((2.0**24,), (1.0,)),)).tolist() == [[0]]


# What bioimageio.core 0.11.0 makes of the pixels below (`proc_ops`, on float32): those of both
# channels at y=3, x=4, then at y=0, x=0. `scale_range` and `fixed` it computes in float64.
Y, X = np.mgrid[:5, :7]
IMAGE = np.stack([(Y * 37 + X * 101) % 256, (Y * Y * 11 + X * 5) % 200]).astype(np.uint16)
BIOIMAGEIO: dict[str, tuple[Before | Softmax, list[float]]] = {
    "zero_mean_unit_variance over y, x": (
        ZScore(epsilon=1e-6),
        [-1.70599055, 0.816371143, -1.74683166, -1.14905405],
    ),
    "zero_mean_unit_variance over channel, y, x": (
        ZScore("image", epsilon=1e-6),
        [-1.30640554, 0.273108035, -1.34725499, -1.34725499],
    ),
    "scale_range over y, x, percentiles 1 and 99.8": (
        ScaleRange(1, 99.8, epsilon=1e-6),
        [0.00798451485, 0.607515868, -0.00411323492, -0.00174073315],
    ),
    "scale_range over channel, y, x, percentiles 5 and 90": (
        ScaleRange(5, 90, "image", 1e-6),
        [-0.0045362903, 0.580141126, -0.019657258, -0.019657258],
    ),
    "fixed_zero_mean_unit_variance": (
        Standardize((100.0, 50.0), (30.0 + 1e-6, 20.0 + 1e-6)),
        [-3.23333323, 3.44999983, -3.33333322, -2.49999988],
    ),
    "scale_linear": (Linear((0.01, 0.02), (-1.0, 1.0)), [-0.97, 3.38, -1.0, 1.0]),
    "clip": (Clip(20, 120), [20.0, 119.0, 20.0, 20.0]),
    "binarize": (Threshold((100.0,)), [0.0, 1.0, 0.0, 0.0]),
    "sigmoid of x / 50 - 2": (Sigmoid(), [0.125647858, 0.593873084, 0.119202934, 0.119202934]),
    "softmax of x / 50 - 2": (Softmax(), [0.0894800499, 0.910520017, 0.5, 0.5]),
}


@pytest.mark.parametrize("name", BIOIMAGEIO)
def test_results_are_those_of_bioimageio(name: str) -> None:
    step, expected = BIOIMAGEIO[name]
    if isinstance(step, (Sigmoid, Softmax)):
        found = apply((step,), IMAGE / 50 - 2)
    else:
        found = normalize(IMAGE, fit_array((step,), IMAGE))
    assert [*found[:, 3, 4], *found[:, 0, 0]] == pytest.approx(expected, rel=1e-6, abs=1e-7)
