"""What a forward pass costs in bytes and seconds, as a function of its window.

Both grow with the window's pixels; a fixed part comes on top:

    bytes = bytes_fixed + bytes_per_pixel x pixels

The slope is the static estimate (`exactile.memory.liveness`) times a factor that was measured on
the device with this engine. Measured with U-Nets of width 16 and 32, float32 and bfloat16: the
factor is 1.00 for eager PyTorch, which does what the estimate says to 0.3 %, and 0.93 for OpenVINO,
which needs 95 to 120 MB once, and keeps what a window took until one of another shape comes.

The factor is rounded up to a sixteenth, so that the noise of a measurement does not change it, and
nor does it change the plan: the same budget gives the same windows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from math import ceil, prod
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from exactile.engine import Engine
from exactile.geometry import Locality, ceil_to
from exactile.memory.liveness import live_bytes
from exactile.memory.peak import measure_peak

PROBE_PIXELS = 384 * 384
"""Pixels of the smaller of the two probes; the other has half as much again on each side."""

LARGER = 1.5
"""Side of the larger probe against the smaller."""

MARGIN = 0.03
"""Share by which the measured slope is raised before it is rounded up."""

FACTOR_STEP = 1 / 16
LEAST_FACTOR = 0.75
"""A smaller share of the static estimate is taken for a mistake of the measurement."""

FIXED_STEP = 2**25
"""The fixed part is rounded up to multiples of this."""

UNMEASURED_FACTOR = 1.25
UNMEASURED_FIXED = 2**27
"""What is added to the static estimate, and to twice the weights, where nothing is run."""

Live = Callable[[tuple[int, ...]], int]
"""The static estimate for a window: most bytes alive at a time."""

SHARE_FOR_PROBES = 0.5
"""Probes take at most this share of the budget, by the static estimate."""


@runtime_checkable
class Releasing(Protocol):
    """An engine that prepares itself for a shape, and keeps memory ready for it."""

    def release(self) -> None:
        """Give that memory back."""

    def rehearse(self, windows: NDArray[np.float32]) -> Tensor:
        """Take the time and the memory of a pass, in as short a preparation as there is."""


@dataclass(frozen=True, slots=True)
class PassCost:
    """What a forward pass takes beyond what the process had before any."""

    bytes_fixed: int
    """Whatever the window."""
    bytes_per_pixel: float
    """For each pixel of the window."""
    seconds_fixed: float | None = None
    """Whatever the window; None where nothing was run."""
    seconds_per_pixel: float | None = None
    """For each pixel of the window; None where nothing was run."""

    def bytes(self, window: tuple[int, ...]) -> int:
        """Return the most bytes that a pass over `window` takes."""
        return self.bytes_fixed + ceil(self.bytes_per_pixel * prod(window))

    def seconds(self, window: tuple[int, ...]) -> float | None:
        """Return how long a pass over `window` takes; None where nothing was run."""
        if self.seconds_fixed is None or self.seconds_per_pixel is None:
            return None
        return self.seconds_fixed + self.seconds_per_pixel * prod(window)


@dataclass(frozen=True, slots=True)
class _Probe:
    """Passes over one window."""

    pixels: int
    peak: int | None
    seconds: float
    """Of the fastest pass but the first."""


def estimate_cost(network: nn.Module, locality: Locality, channels: int) -> PassCost:
    """Return what a pass of `network` may take, of the type of its weights; nothing is run.

    Raises:
        ModelError: if the network cannot be run.
    """
    live = partial(live_bytes, network, channels)
    slope = _static_slope(live, *probe_windows(locality))
    weights = sum(w.nbytes for part in (network.parameters(), network.buffers()) for w in part)
    return PassCost(UNMEASURED_FIXED + 2 * weights, UNMEASURED_FACTOR * slope)


def measure_cost(
    engine: Engine,
    network: nn.Module,
    locality: Locality,
    channels: int,
    budget_bytes: int | None = None,
) -> PassCost:
    """Run small windows through `engine` and return what a pass takes of its device.

    `network` is what the static estimate is of, with weights of the engine's precision. The probes
    are made smaller where they would take much of `budget_bytes`. To be called while nothing else
    runs, best before any other pass: what the very first one takes for good is counted, too.

    Raises:
        RuntimeError, MemoryError: if the network cannot be run on such windows.
        ModelError: if it cannot be run on tensors without data.
    """
    live = cache(partial(live_bytes, network, channels))
    windows = probe_windows(locality)
    if budget_bytes is not None:
        windows = _affordable(live, locality, budget_bytes)
    least = tuple(axis.pad(axis.least) for axis in locality.axes)
    first = _probe(engine, channels, least, passes=1)
    small, large = (_probe(engine, channels, window, passes=2) for window in windows)
    seconds_per_pixel = (large.seconds - small.seconds) / (large.pixels - small.pixels)
    if seconds_per_pixel <= 0:
        seconds_per_pixel = large.seconds / large.pixels
    seconds_fixed = max(0.0, small.seconds - seconds_per_pixel * small.pixels)
    if first.peak is None or small.peak is None or large.peak is None:
        estimate = estimate_cost(network, locality, channels)
        return replace(estimate, seconds_fixed=seconds_fixed, seconds_per_pixel=seconds_per_pixel)
    static = _static_slope(live, *windows)
    slope = (large.peak - small.peak) / (large.pixels - small.pixels)
    factor = max(slope * (1 + MARGIN) / static, LEAST_FACTOR)
    per_pixel = static * ceil(factor / FACTOR_STEP) * FACTOR_STEP
    taken = [(first.peak, first.pixels), (small.peak, small.pixels), (large.peak, large.pixels)]
    fixed = max(0, *(peak - int(per_pixel * pixels) for peak, pixels in taken))
    return PassCost(
        bytes_fixed=ceil_to(fixed, FIXED_STEP),
        bytes_per_pixel=per_pixel,
        seconds_fixed=seconds_fixed,
        seconds_per_pixel=seconds_per_pixel,
    )


def probe_windows(
    locality: Locality, pixels: int = PROBE_PIXELS
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return two windows on the F grid, neither below the least that the network was seen on."""
    side = pixels ** (1 / len(locality.axes))
    small = tuple(ceil_to(ceil(max(round(side), a.least)), a.alignment) for a in locality.axes)
    large = tuple(
        max(length + a.alignment, ceil_to(ceil(LARGER * length), a.alignment))
        for length, a in zip(small, locality.axes, strict=True)
    )
    return small, large


def _affordable(
    live: Live, locality: Locality, budget_bytes: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the largest probes that leave enough of the budget, or the least there are."""
    pixels = PROBE_PIXELS
    windows = probe_windows(locality, pixels)
    while live(windows[1]) > SHARE_FOR_PROBES * budget_bytes:
        pixels //= 2
        before, windows = windows, probe_windows(locality, pixels)
        if windows == before:
            break
    return windows


def _static_slope(live: Live, small: tuple[int, ...], large: tuple[int, ...]) -> float:
    return (live(large) - live(small)) / (prod(large) - prod(small))


def _probe(engine: Engine, channels: int, window: tuple[int, ...], passes: int) -> _Probe:
    """Run a window of noise `passes` times; the first shows the memory, the others the time."""
    noise = np.random.default_rng(0).standard_normal((1, channels, *window), dtype=np.float32)
    _release(engine)
    run = engine.rehearse if isinstance(engine, Releasing) else engine.logits
    peak = measure_peak(engine.device, lambda: run(noise))
    seconds = []
    for _ in range(passes - 1):
        begun = time.perf_counter()
        # On a GPU the logits come later than the call returns; a value of theirs does not.
        run(noise).flatten()[0].item()
        seconds.append(time.perf_counter() - begun)
    _release(engine)
    return _Probe(prod(window), peak, min(seconds, default=0.0))


def _release(engine: Engine) -> None:
    if isinstance(engine, Releasing):
        engine.release()
