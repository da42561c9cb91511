"""The algebra of intervals, boxes and halos."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactile import geometry, padding, tiling
from exactile.geometry import AxisLocality, Box, Halo, Interval, Locality, ceil_to, floor_to
from exactile.locality import unet


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    start = draw(st.integers(0, 60))
    return Interval(start, start + draw(st.integers(0, 60)))


@pytest.mark.parametrize("module", [geometry, padding, tiling, unet])
def test_the_examples_in_the_documentation_are_true(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@given(intervals(), intervals())
def test_the_common_part_holds_the_positions_of_both(a: Interval, b: Interval) -> None:
    common = a & b
    both = set(range(a.start, a.stop)) & set(range(b.start, b.stop))
    assert set(range(common.start, common.stop)) == both


@given(intervals(), st.integers(1, 20))
def test_the_parts_of_a_split_are_the_whole_in_order(a: Interval, step: int) -> None:
    positions = [p for part in a.split(step) for p in range(part.start, part.stop)]
    assert positions == list(range(a.start, a.stop))


@given(intervals(), intervals(), intervals())
def test_a_box_indexes_the_pixels_it_names(y: Interval, x: Interval, other: Interval) -> None:
    grid = np.indices((130, 130))
    cut = grid[Box((y, x)).slices]
    assert cut.shape == (2, y.length, x.length)
    if cut.size:
        assert tuple(cut[:, 0, 0]) == (y.start, x.start)
    inner = Box((y & other, x))
    if inner.size:
        assert np.array_equal(cut[inner.relative_to(Box((y, x))).slices], grid[inner.slices])


@given(st.integers(-100, 100), st.integers(1, 17))
def test_rounding_goes_to_the_nearest_multiples(value: int, step: int) -> None:
    low, high = floor_to(value, step), ceil_to(value, step)
    assert low <= value <= high
    assert low % step == high % step == 0
    assert high - low == (0 if value % step == 0 else step)


def test_values_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="ends before it starts"):
        Interval(3, 2)
    with pytest.raises(ValueError, match="negative"):
        Halo(-1, 0)
    with pytest.raises(ValueError, match="multiples of F"):
        AxisLocality(16, Halo(8, 16))
    with pytest.raises(ValueError, match="at least 1"):
        AxisLocality(0, Halo(0, 0))


def test_a_locality_pads_to_its_grid() -> None:
    locality = Locality((AxisLocality(16, Halo(0, 16)), AxisLocality(5, Halo(0, 0))))
    assert locality.pad((17, 10)) == (32, 10)
    assert locality.alignment == (16, 5)


def test_growing_by_a_halo_moves_both_ends() -> None:
    assert Interval(10, 20).grow(Halo(3, 4)) == Interval(7, 24)
