"""Normalisation steps as people write and read them."""

from __future__ import annotations

from math import isfinite
from typing import assert_never

import numpy as np

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

FORMS = "none, zscore, minmax, percentile:LOW:HIGH (such as percentile:1:99.8) or scale:A:B"


def parse_normalization(text: str) -> tuple[Before, ...]:
    """Return the steps that the option's value asks for.

    - `none`: pixels as they are, in float32.
    - `zscore`: each channel to mean 0 and deviation 1.
    - `minmax`: the least and the largest value of each channel to 0 and 1.
    - `percentile:LOW:HIGH`: two percentiles of each channel to 0 and 1.
    - `scale:A:B`: x * A + B, such as `scale:0.00392157:0` for 8 bits to 0 to 1.

    Raises:
        ValueError: with what is wrong and what to write; the sentence starts after the value.
    """
    name, *words = text.strip().split(":")
    match name, words:
        case "none", []:
            return ()
        case "zscore", []:
            return (ZScore(),)
        case "minmax", []:
            return (ScaleRange(),)
        case "percentile", [_, _]:
            low, high = (_number(word) for word in words)
            if not 0 <= low < high <= 100:
                raise ValueError(
                    "is not a range of percentiles; use two from 0 to 100, the smaller first, "
                    "such as percentile:1:99.8"
                )
            return (ScaleRange(low, high),)
        case "scale", [_, _]:
            gain, offset = (_number(word) for word in words)
            if np.float32(gain) == 0:
                raise ValueError("multiplies every pixel by 0; use scale:A:B, which is x * A + B")
            return (Linear((gain,), (offset,)),)
        case _:
            raise ValueError(f"is not a normalization; use {FORMS}")


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not isfinite(value) or abs(value) > float(np.finfo(np.float32).max):
        raise ValueError(
            f"contains {word!r}, which is not a number that float32 holds; use {FORMS}"
        )
    return value


def describe(steps: tuple[Before | After, ...]) -> str:
    """Return in words what `steps` do, for people; `none` where there are none."""
    return ", then ".join(_words(step) for step in steps) or "none"


def _words(step: Before | After) -> str:
    match step:
        case ZScore(scope, least, epsilon):
            rule = "" if least is None else f" (deviations up to {least:g} are not divided by)"
            return f"z-score of {_whose(scope)}{_added(epsilon)}{rule}"
        case ScaleRange(low, high, scope, epsilon):
            ends = "minimum and maximum"
            if (low, high) != (0, 100):
                ends = f"percentiles {low:g} and {high:g}"
            return f"{ends} of {_whose(scope)} to 0 and 1{_added(epsilon)}"
        case Standardize(mean, deviation):
            return f"(x - mean) / deviation with mean {_list(mean)}, deviation {_list(deviation)}"
        case Linear(gain, offset):
            return f"x * {_list(gain)} + {_list(offset)}"
        case Clip(low, high):
            parts = (("below", low), ("above", high))
            given = [f"{side} {limit:g}" for side, limit in parts if limit is not None]
            return f"clip {' and '.join(given)}"
        case Threshold(values):
            return f"1 above {_list(values)}, else 0"
        case Sigmoid():
            return "sigmoid"
        case Softmax():
            return "softmax over the channels"
        case _:
            assert_never(step)


def _whose(scope: str) -> str:
    return "each channel" if scope == "channel" else "all channels together"


def _added(epsilon: float) -> str:
    return f", with {epsilon:g} added to the divisor" if epsilon else ""


def _list(numbers: tuple[float, ...]) -> str:
    """Return one number, or those of the channels in brackets."""
    text = ", ".join(f"{number:g}" for number in numbers)
    return text if len(numbers) == 1 else f"[{text}]"
