"""Half the size: against a naive implementation, pixel by pixel, and tile by tile."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from exactile.images.downsampling import halve
from exactile.images.levels import level_shapes, next_level
from exactile.images.metadata import PIXEL_TYPES

INTEGERS = [name for name in PIXEL_TYPES if "int" in name]
FLOATS = ["float32", "float64"]
SHAPES = arrays.array_shapes(min_dims=3, max_dims=3, max_side=7)


def naive(pixels: np.ndarray, one_of: object) -> np.ndarray:
    """Halve (C, Y, X), `one_of` giving a pixel for the list of those that there are."""
    channels, height, width = pixels.shape
    result = np.empty((channels, -(-height // 2), -(-width // 2)), pixels.dtype)
    for c, y, x in np.ndindex(result.shape):
        there = pixels[c, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        result[c, y, x] = one_of(there)  # type: ignore[operator]
    return result


def least_mode(there: np.ndarray) -> int:
    counts = Counter(there.ravel().tolist())
    return min(number for number in counts if counts[number] == max(counts.values()))


def rounded_mean(there: np.ndarray) -> int:
    """Python rounds a fraction to the nearest integer, a half to the even one."""
    return round(Fraction(sum(there.ravel().tolist()), there.size))


def mean_of_floats(there: np.ndarray) -> np.floating:
    doubled = np.pad(there, [(0, 2 - side) for side in there.shape], mode="edge")
    (a, b), (c, d) = doubled.astype(np.float64)
    with np.errstate(all="ignore"):
        return (((a + b) + (c + d)) / 4).astype(there.dtype)


@given(data=st.data())
@pytest.mark.parametrize("dtype", INTEGERS)
def test_the_mode_is_the_least_of_the_most_frequent(dtype: str, data: st.DataObject) -> None:
    few = st.integers(0, 3) | st.integers(np.iinfo(dtype).min, np.iinfo(dtype).max)
    pixels = data.draw(arrays.arrays(dtype, SHAPES, elements=few))
    found = halve(pixels, "mode")
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found, naive(pixels, least_mode))


@given(data=st.data())
@pytest.mark.parametrize("dtype", INTEGERS)
def test_the_mean_of_integers_is_rounded_to_even(dtype: str, data: st.DataObject) -> None:
    pixels = data.draw(arrays.arrays(dtype, SHAPES))
    found = halve(pixels, "mean")
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found, naive(pixels, rounded_mean))


@given(data=st.data())
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_mean_of_floats_is_rounded_once(dtype: str, data: st.DataObject) -> None:
    # Four of the largest float64 have no sum.
    bound = 1e307 if dtype == "float64" else None
    width = np.dtype(dtype).itemsize * 8
    numbers = st.floats(width=width, min_value=bound and -bound, max_value=bound)
    pixels = data.draw(arrays.arrays(dtype, SHAPES, elements=numbers))
    found = halve(pixels, "mean")
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found, naive(pixels, mean_of_floats))


def test_four_numbers_that_all_differ_give_the_least() -> None:
    for order in ([1, 2, 3, 4], [4, 3, 2, 1], [3, 1, 4, 2]):
        assert halve(np.array(order, np.uint8).reshape(1, 2, 2), "mode").tolist() == [[[1]]]


def test_the_largest_float32_has_a_mean() -> None:
    most = np.full((1, 2, 2), np.finfo(np.float32).max, np.float32)
    assert halve(most, "mean") == most[0, 0, 0]


def test_the_array_that_is_halved_stays_as_it_is() -> None:
    for how in ("mode", "mean"):
        pixels = np.arange(35, dtype=np.uint8).reshape(1, 5, 7)
        halve(pixels, how)  # type: ignore[arg-type]
        assert pixels.ravel().tolist() == list(range(35))


def tiles_of(level: np.ndarray, side: int) -> dict[tuple[int, int], np.ndarray]:
    """Cut (C, Y, X) into tiles of full size, with nines beyond the level."""
    channels, height, width = level.shape
    rows, columns = -(-height // side), -(-width // side)
    padded = np.full((channels, rows * side, columns * side), 9, level.dtype)
    padded[:, :height, :width] = level
    return {
        (row, column): padded[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
        for row in range(rows)
        for column in range(columns)
    }


@given(data=st.data(), side=st.sampled_from([2, 4, 6]), how=st.sampled_from(["mode", "mean"]))
def test_tile_by_tile_a_level_is_the_whole_one_halved(
    data: st.DataObject, side: int, how: str
) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=3, max_dims=3, max_side=3 * side))
    level = data.draw(arrays.arrays(np.uint16, shape, elements=st.integers(0, 5)))
    tiles = tiles_of(level, side)
    asked: list[tuple[int, int]] = []

    def read(row: int, column: int) -> np.ndarray:
        asked.append((row, column))
        return tiles[row, column]

    expected = halve(level, how)  # type: ignore[arg-type]
    rows, columns = -(-expected.shape[1] // side), -(-expected.shape[2] // side)
    found = np.zeros((shape[0], rows * side, columns * side), level.dtype)
    places = []
    for row, column, tile in next_level(shape[1:], side, read, how):  # type: ignore[arg-type]
        places.append((row, column))
        found[:, row * side : (row + 1) * side, column * side : (column + 1) * side] = tile
    inside = (slice(None), slice(expected.shape[1]), slice(expected.shape[2]))
    np.testing.assert_array_equal(found[inside], expected)
    found[inside] = 0
    assert not found.any()  # beyond the level, whatever lay beyond the one before
    assert places == list(np.ndindex(rows, columns))
    assert sorted(asked) == sorted(tiles)  # once each


def test_levels_end_with_the_first_that_fits_one_tile() -> None:
    assert level_shapes((1024, 1024), 1024) == ((1024, 1024),)
    assert level_shapes((1025, 3), 1024) == ((1025, 3), (513, 2))
    assert level_shapes((1, 4097), 1024) == ((1, 4097), (1, 2049), (1, 1025), (1, 513))


def test_tiles_of_an_odd_side_are_refused() -> None:
    with pytest.raises(ValueError, match="use an even side"):
        next(next_level((9, 9), 3, lambda *_: np.zeros((3, 3), np.uint8), "mode"))
