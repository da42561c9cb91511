"""What is done to an image before the network and to its output after it, as plain values.

A step of the first kind needs statistics of the whole image, which are streamed
(`exactile.normalization`). All other steps act on each pixel by itself, so a window gets from them
the very bits that the whole image would get.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["channel", "image"]
"""Statistics of each channel by itself, or of all channels of the image together."""


@dataclass(frozen=True, slots=True)
class ZScore:
    """Subtract the mean and divide by the population standard deviation."""

    scope: Scope = "channel"
    least: float | None = None
    """At or below this deviation only the mean is subtracted."""
    epsilon: float = 0.0
    """Added to the deviation."""


@dataclass(frozen=True, slots=True)
class ScaleRange:
    """Map two percentiles to 0 and 1: (x - low) / (high - low + epsilon); values beyond stay so.

    Percentiles are those of numpy (linear interpolation between order statistics), 0 and 100 the
    least and the largest value. Where both are equal and epsilon is 0, the divisor is 1.
    """

    low: float = 0.0
    high: float = 100.0
    scope: Scope = "channel"
    epsilon: float = 0.0


@dataclass(frozen=True, slots=True)
class Standardize:
    """(x - mean) / deviation with fixed numbers: one for all channels, or one for each."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Linear:
    """x * gain + offset: one number for all channels, or one for each."""

    gain: tuple[float, ...]
    offset: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Clip:
    """Values below `low` become `low`, those above `high` become `high`."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Threshold:
    """1 where x is above the threshold, else 0: one for all channels, or one for each."""

    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """1 / (1 + exp(-x))."""


@dataclass(frozen=True, slots=True)
class Softmax:
    """Softmax over the channels of each pixel."""


Measured = ZScore | ScaleRange
"""Steps that need statistics of the whole image."""

Pointwise = Standardize | Linear | Clip | Threshold | Sigmoid
"""Steps that need nothing but a pixel's value and its channel."""

Before = Measured | Pointwise
"""Steps from the image to the network's input."""

After = Pointwise | Softmax
"""Steps from the network's output to what the model declares as its result."""

NIST_ZSCORE = ZScore(least=1.0)
"""The rule of the reference code: a deviation of 1 grey value or less is not divided by."""
