"""What is known of the values of a tensor, whatever the image: bounds, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, isnan

import numpy as np
import torch

SLACK = 1e-3
"""By how much rounding, or weights that add up to 1 by themselves, may lead beyond 0 and 1."""


@dataclass(frozen=True, slots=True)
class Values:
    """Bounds that no value is beyond, and what is known beside them."""

    low: float = -inf
    high: float = inf
    free: bool = False
    """They take both signs, and no bound above is theirs: features that weights were put on."""
    numbers: bool = False
    """They are places of channels, as argmax gives them."""
    logarithms: int = 0
    """They are logarithms of so many probabilities that add up to 1; 0 where that is not known."""

    @property
    def within_one(self) -> bool:
        """Whether all lie from 0 to 1."""
        return self.low >= -SLACK and self.high <= 1 + SLACK

    @property
    def signed(self) -> bool:
        """Whether the bounds leave both signs open."""
        return self.low < 0 < self.high

    def bounds(self) -> Values:
        """Return the bounds alone."""
        return Values(self.low, self.high)

    def sentence(self) -> str:
        """Return the bounds in words."""
        if self.low == -inf and self.high == inf:
            return "values without known bounds"
        return f"values from {self.low:g} to {self.high:g}"


UNKNOWN = Values()
FREE = Values(free=True)
SHARES = Values(0.0, 1.0)


def point(value: float) -> Values:
    """Return what is known of a number."""
    return UNKNOWN if isnan(value) else Values(float(value), float(value))


def of_constant(tensor: torch.Tensor) -> Values:
    """Return the range of a tensor whose values are there, such as a weight."""
    if not tensor.numel() or tensor.is_complex():
        return UNKNOWN
    plain = tensor.detach().to(torch.float64)
    low, high = float(plain.min()), float(plain.max())
    return UNKNOWN if isnan(low) or isnan(high) else Values(low, high)


def hull(*parts: Values) -> Values:
    """Return what holds of values that are each among one of `parts`."""
    if not parts:
        return UNKNOWN
    counts = {part.logarithms for part in parts}
    return Values(
        min(part.low for part in parts),
        max(part.high for part in parts),
        all(part.free for part in parts),
        all(part.numbers for part in parts),
        counts.pop() if len(counts) == 1 else 0,
    )


def added(first: Values, second: Values) -> Values:
    """Return what holds of sums."""
    low, high = first.low + second.low, first.high + second.high
    return _bounded(low, high, first.free or second.free)


def negated(values: Values) -> Values:
    """Return what holds of the values with the other sign."""
    return Values(-values.high, -values.low, values.free)


def multiplied(first: Values, second: Values) -> Values:
    """Return what holds of products; a sign that is known does not hide the other's."""
    ends = [_product(a, b) for a in (first.low, first.high) for b in (second.low, second.high)]
    free = any(
        one.free and (other.low >= 0 or other.high <= 0) and (other.low, other.high) != (0, 0)
        for one, other in ((first, second), (second, first))
    )
    return Values(min(ends), max(ends), free)


def inverted(values: Values) -> Values:
    """Return what holds of 1 / x."""
    if values.low <= 0 <= values.high:
        if values.low == 0 < values.high:
            return Values(1 / values.high, inf)
        return UNKNOWN
    low, high = sorted((1 / values.low, 1 / values.high))
    return Values(low, high)


def rising(values: Values, function: Callable[[float], float]) -> Values:
    """Return what holds after a function that never falls; infinities are its limits."""
    with np.errstate(all="ignore"):
        low, high = (float(function(np.float64(end))) for end in (values.low, values.high))
    return _bounded(low, high, free=False)


def clipped(values: Values, low: float, high: float) -> Values:
    """Return what holds of values that were kept from `low` to `high`."""
    least, most = (min(max(end, low), high) for end in (values.low, values.high))
    return Values(least, most)


def in_type(values: Values, before: torch.dtype | None, dtype: torch.dtype) -> Values:
    """Return what is left of `values` in a tensor of `dtype`, made of one of type `before`.

    Numbers beyond a type of whole numbers begin again at its other end, so nothing is known then.
    """
    if dtype is torch.bool:
        return SHARES
    if dtype.is_floating_point or dtype.is_complex:
        return values
    limits = torch.iinfo(dtype)
    if values.low <= limits.min - 1 or values.high >= limits.max + 1:
        return UNKNOWN
    if before is not None and before.is_floating_point:
        return Values(float(np.trunc(values.low)), float(np.trunc(values.high)))
    return replace(values, free=False)


def _bounded(low: float, high: float, free: bool) -> Values:
    return Values(-inf if isnan(low) else low, inf if isnan(high) else high, free)


def _product(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b
