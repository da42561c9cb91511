from __future__ import annotations

import doctest
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactile.geometry import Interval
from exactile.partition import even_cuts, layout, padding


@pytest.mark.parametrize("module", [layout, padding])
def test_examples_in_docstrings_run(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


@given(st.integers(0, 300), st.integers(1, 9), st.integers(1, 32))
def test_even_cuts_rise_and_lie_on_the_grid_of_f(extent: int, parts: int, alignment: int) -> None:
    cuts = layout.Split(0, even_cuts(extent, parts, alignment)).cuts
    assert len(cuts) == parts + 1
    assert cuts[-1] == extent
    assert not any(cut % alignment for cut in cuts[:-1] if cut != extent)


@given(st.data())
def test_windows_of_any_part_lie_where_those_of_the_whole_do(data: st.DataObject) -> None:
    taps = layout.Taps(*(data.draw(st.integers(1, 5)) for _ in range(4)))
    start = data.draw(st.integers(0, 20))
    own = Interval(start, start + data.draw(st.integers(1, 9)))
    read = taps.read(own)
    assert read.start == own.start * taps.stride - taps.padding
    assert layout.Taps(taps.kernel, taps.stride, 0, taps.dilation).extent(read.length, 0) == (
        own.length
    )
