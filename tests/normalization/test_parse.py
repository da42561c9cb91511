"""Normalisation as text: what the option takes, and what people read."""

from __future__ import annotations

import pytest

from exactile.normalization import describe, parse_normalization
from exactile.processing import (
    NIST_ZSCORE,
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


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("none", ()),
        ("zscore", (ZScore(),)),
        (" minmax ", (ScaleRange(0, 100),)),
        ("percentile:1:99.8", (ScaleRange(1, 99.8),)),
        ("percentile:0:100", (ScaleRange(),)),
        ("scale:2:-1", (Linear((2.0,), (-1.0,)),)),
        ("scale:1e-3:0", (Linear((0.001,), (0.0,)),)),
    ],
)
def test_the_option_gives_steps(text: str, steps: tuple[Before, ...]) -> None:
    assert parse_normalization(text) == steps


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not a normalization; use none, zscore, minmax"),
        ("z-score", "is not a normalization"),
        ("none:1", "is not a normalization"),
        ("percentile", "is not a normalization"),
        ("percentile:1", "is not a normalization"),
        ("scale:1:2:3", "is not a normalization"),
        ("percentile:99:1", "two from 0 to 100, the smaller first"),
        ("percentile:5:5", "two from 0 to 100, the smaller first"),
        ("percentile:-1:99", "two from 0 to 100"),
        ("percentile:1:100.5", "two from 0 to 100"),
        ("percentile:1:nan", "contains 'nan', which is not a number"),
        ("scale:a:b", "contains 'a', which is not a number"),
        ("scale::0", "contains '', which is not a number"),
        ("scale:inf:0", "contains 'inf', which is not a number"),
        ("scale:1e39:0", "contains '1e39', which is not a number that float32 holds"),
        ("scale:0:1", "multiplies every pixel by 0"),
        ("scale:1e-60:1", "multiplies every pixel by 0"),
    ],
)
def test_what_is_wrong_with_the_option_is_said(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_normalization(text)


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((), "none"),
        ((ZScore(),), "z-score of each channel"),
        ((NIST_ZSCORE,), "z-score of each channel (deviations up to 1 are not divided by)"),
        (
            (ZScore("image", epsilon=1e-6),),
            "z-score of all channels together, with 1e-06 added to the divisor",
        ),
        ((ScaleRange(),), "minimum and maximum of each channel to 0 and 1"),
        ((ScaleRange(1, 99.8),), "percentiles 1 and 99.8 of each channel to 0 and 1"),
        (
            (Standardize((1.0, 2.5), (3.0,)), Linear((2.0,), (-1.0,))),
            "(x - mean) / deviation with mean [1, 2.5], deviation 3, then x * 2 + -1",
        ),
        ((Clip(0, 1), Clip(high=3)), "clip below 0 and above 1, then clip above 3"),
        ((Sigmoid(), Threshold((0.5,))), "sigmoid, then 1 above 0.5, else 0"),
        ((Softmax(),), "softmax over the channels"),
    ],
)
def test_steps_are_described_in_words(steps: tuple[Before | After, ...], text: str) -> None:
    assert describe(steps) == text
