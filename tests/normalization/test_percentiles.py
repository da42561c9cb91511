"""Percentiles: numpy's, bit for bit, in one small block at a time."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from exactile.normalization import percentiles as module
from exactile.normalization.blocks import LARGEST, Pixels, pixels_of_array
from exactile.normalization.percentiles import percentiles

INTEGERS = [np.bool_, np.uint8, np.uint16, np.uint32, np.int8, np.int16, np.int32]
SHAPES = array_shapes(min_dims=3, max_dims=3, max_side=9)
RANKS = st.lists(st.integers(0, 100) | st.floats(0, 100), min_size=1, max_size=4).map(tuple)
STEPS = st.tuples(st.integers(1, 9), st.integers(1, 9))


def percentiles_of(pixels: Pixels, wanted: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    return percentiles(lambda gather: gather.gather(pixels.blocks()), pixels, wanted)


def of_numpy(pixels: NDArray[Any], wanted: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)
    return tuple(tuple(float(np.percentile(channel, q)) for q in wanted) for channel in flat)


@given(st.data(), st.sampled_from(INTEGERS), RANKS, STEPS)
def test_percentiles_of_integers_are_numpys_to_the_last_bit(
    data: st.DataObject, dtype: type, wanted: tuple[float, ...], step: tuple[int, int]
) -> None:
    pixels = data.draw(arrays(dtype, SHAPES))
    assert percentiles_of(pixels_of_array(pixels, step), wanted) == of_numpy(pixels, wanted)


@given(st.data(), st.sampled_from([32, 64]), RANKS, STEPS)
def test_percentiles_of_floats_are_numpys_to_the_last_bit(
    data: st.DataObject, width: Any, wanted: tuple[float, ...], step: tuple[int, int]
) -> None:
    finite = st.floats(-LARGEST, LARGEST, width=width)
    near = st.sampled_from([-0.0, 0.0, 1.0, -1.0, 2.0**-140, 1 + 2.0**-20])
    pixels = data.draw(arrays(f"f{width // 8}", SHAPES, elements=finite | near))
    assert percentiles_of(pixels_of_array(pixels, step), wanted) == of_numpy(pixels, wanted)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32, np.float64])
@pytest.mark.parametrize("wanted", [(1, 99.8), (0, 100), (0, 33.3, 50, 100)])
def test_percentiles_of_many_pixels_are_numpys(dtype: type, wanted: tuple[float, ...]) -> None:
    # More than a piece; the leading 16 bits of most keys are equal.
    noise = np.random.default_rng(0).standard_normal((2, 700, 800))
    pixels = (noise * [[[9]], [[30]]] + 100).clip(0, 255).astype(dtype)
    assert percentiles_of(pixels_of_array(pixels, (700, 600)), wanted) == of_numpy(pixels, wanted)


def test_channels_can_be_taken_together() -> None:
    pixels = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
    assert percentiles_of(pixels_of_array(pixels).together(), (50, 99)) == ((29.5, 58.41),)


@pytest.mark.parametrize("wanted", [(0, 100), (0, 50, 100)])
def test_zero_has_no_sign(wanted: tuple[float, ...]) -> None:
    pixels = np.full((1, 3, 3), -0.0)
    assert str(percentiles_of(pixels_of_array(pixels), wanted)[0][0]) == "0.0"


def test_big_endian_pixels_are_those_of_this_machine() -> None:
    pixels = np.arange(300, dtype=">u2").reshape(1, 15, 20)
    assert percentiles_of(pixels_of_array(pixels), (10, 100)) == of_numpy(pixels, (10, 100))


@pytest.mark.parametrize(
    ("dtype", "wanted", "passes"),
    [
        (np.uint8, (1, 99), 1),
        (np.uint16, (1, 99), 1),
        (np.float32, (1, 99), 2),
        (np.float64, (1, 99), 4),
        (np.float64, (0, 100), 1),
    ],
)
def test_the_image_is_read_as_often_as_promised(
    dtype: type, wanted: tuple[float, ...], passes: int
) -> None:
    whole = pixels_of_array(np.ones((2, 8, 8), dtype))
    begun = []

    def blocks() -> Any:
        begun.append(None)
        return whole.blocks()

    counted = Pixels(whole.name, whole.dtype, whole.channels, whole.count, blocks)
    percentiles_of(counted, wanted)
    assert len(begun) == passes


def test_memory_does_not_depend_on_the_size_of_the_image() -> None:
    def peak(blocks: int) -> int:
        block = np.linspace(0, 1, 2**18, dtype=np.float32).reshape(1, 512, 512)
        pixels = Pixels("", block.dtype, 1, block.size * blocks, lambda: iter([block] * blocks))
        tracemalloc.start()
        percentiles_of(pixels, (1, 99.8))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(40) < 1.05 * peak(4)
    assert peak(4) < 2**24


def test_the_pieces_that_are_counted_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(1).integers(0, 2**32, (1, 40, 50), np.uint32)
    expected = percentiles_of(pixels_of_array(pixels), (1, 99))
    monkeypatch.setattr(module, "PIECE", 7)
    assert percentiles_of(pixels_of_array(pixels), (1, 99)) == expected
