"""The synthetic slide: any box of it is what the whole slide has there."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from exactile.geometry import Box, Interval
from exactile.synthetic import slide

WHOLE = Box.of_shape((300, 400))
IMAGE, TRUTH = slide(WHOLE, seed=3)


@given(st.integers(0, 299), st.integers(0, 399), st.integers(1, 150), st.integers(1, 150))
@settings(max_examples=30)
def test_a_box_is_made_as_in_the_whole_slide(y: int, x: int, height: int, width: int) -> None:
    box = Box((Interval(y, y + height), Interval(x, x + width))) & WHOLE
    image, truth = slide(box, seed=3)
    assert np.array_equal(image, IMAGE[box.slices])
    assert np.array_equal(truth, TRUTH[box.slices])


def test_another_seed_is_another_slide() -> None:
    assert not np.array_equal(slide(WHOLE, seed=4)[1], TRUTH)


def test_colonies_and_background_are_both_there_and_look_different() -> None:
    image, truth = slide(Box.of_shape((2048, 2048)))
    assert 0.1 < truth.mean() < 0.7
    assert image[truth == 1].std() > 2 * image[truth == 0].std()
