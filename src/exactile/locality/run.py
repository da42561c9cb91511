"""What one run of a network leaves behind, and how a run can end."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from exactile.locality.reach import NOTHING, Reach
from exactile.locality.refusal import Refusal
from exactile.locality.registry import Call

BATCH_AXIS = -1
"""In place of a spatial axis: the batch, of which each image should depend on itself only."""

BATCH = 3
"""Images in the batch that `BATCH_AXIS` is traced with."""

RUN_ERRORS = (
    *(
        RuntimeError,
        ValueError,
        TypeError,
        AssertionError,
        AttributeError,
        LookupError,
        torch.jit.Error,
    ),
    ArithmeticError,
)
"""What a network raises on a size or a number of channels that it cannot take."""


@dataclass(frozen=True, slots=True)
class Record:
    """One operator call of a run."""

    operator: str
    module: str
    numbers: tuple[object, ...]
    """All that it was given beside tensors and sizes: a part of what it computes."""
    inputs: tuple[tuple[int, ...], ...]
    """Shapes of the tensors that it took."""
    outputs: tuple[tuple[int, ...], ...]
    """Shapes of the tensors that it returned."""
    drift: float
    """How far its first output reaches beyond its own place, in input pixels."""
    origin: int
    """Mark of its first output's first element, where the image's size should not show."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of the network showed."""

    extent: tuple[int, ...]
    axis: int
    records: tuple[Record, ...]
    refusals: tuple[Refusal, ...]
    diverged: Refusal | None
    """Where the network left the path of the earlier run, which stopped this one."""
    uneven: bool
    """All refusals are of sizes whose ratios may become even at another extent."""
    shape: tuple[int, ...] | None
    """Shape of the network's output; None where the run was stopped."""
    reach: Reach | None
    """Reach of the network's output; None where the run was stopped."""
    last: str
    """The operator that made the output's values; `none` where the run was stopped."""

    @property
    def operators(self) -> dict[str, int]:
        """How often each operator was called."""
        return dict(Counter(record.operator for record in self.records))


class Observer(Protocol):
    """Who looks on while a network is traced."""

    def called(self, call: Call) -> None:
        """See a call whose outputs are known."""

    def returned(self, output: torch.Tensor) -> None:
        """See the network's output."""


def drift(reach: Reach, shape: Sequence[int], extent: int) -> float:
    """Return how far positions reach from their own place, where they have one."""
    dims = [dim for dim in range(reach.low.ndim) if reach.tracked(dim)]
    known = reach.low != NOTHING
    if not dims or not known.any():
        return 0.0
    if len(dims) == 1:
        place = np.arange(reach.low.size) * (extent / shape[dims[0]])
        low, high, there = reach.low.ravel(), reach.high.ravel(), known.ravel()
        return float(max((place - low)[there].max(), (high - place)[there].max()))
    return float((reach.high - reach.low)[known].max())


class RuleDefect(Exception):  # noqa: N818 - a defect of exactile, never of the network
    """A rule failed, or gave a reach that does not fit its output."""


class Stopped(Exception):  # noqa: N818 - control flow, never seen by a user
    """The run cannot go on after a refusal: the operator needs values, and there are none."""


class Failed(Exception):  # noqa: N818 - turned into a ModelError by the analysis
    """The network raised an error; `refusal` says where, with the error's first line."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(str(refusal))


class Outputs(Exception):  # noqa: N818 - turned into a ModelError by the analysis
    """The network returned another number of tensors than one."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(f"{count} outputs")


def words(extent: Sequence[int]) -> str:
    """Return an extent for people.

    >>> words((512, 640))
    '512 x 640'
    """
    return " x ".join(map(str, extent))


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Keep torch from logging tracebacks of errors that are caught here."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled
