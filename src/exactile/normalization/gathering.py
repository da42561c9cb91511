"""What a pass over the pixels gathers, so that parts of an image can be gathered apart.

    steps -- fit --> Pass 1 --> what it found --> Pass 2 --> ... --> steps with numbers

What an implementer of `Gather` promises:

- What is merged from parts has the bits of what is gathered from all blocks at once. The parts
  follow one another in the order of the blocks, and each block lies in one of them; where the parts
  are cut does not matter.
- `decode` returns what `encode` was given, bit for bit, by way of JSON text. It raises ValueError,
  TypeError, KeyError or IndexError for what `encode` cannot have made.
- `check` raises InconsistentError for what no pixels have: what was decoded may be of any origin.
- Memory is bounded by a block, and by what is found: a few numbers for each block at most.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from numpy.typing import NDArray

from exactile.normalization.blocks import Pixels
from exactile.processing import Pointwise

Found = TypeVar("Found")


class InconsistentError(ValueError):
    """What is said to have been found is in no pixels, or not in as many as the image has."""


class Gather(ABC, Generic[Found]):
    """What is gathered from blocks (C, ...); see the module for what it promises."""

    @abstractmethod
    def gather(self, blocks: Iterable[NDArray[Any]]) -> Found:
        """Return what there is in `blocks`, at least one, a block in memory at a time."""

    @abstractmethod
    def merge(self, parts: Sequence[Found]) -> Found:
        """Return what there is in all `parts`, at least one, given in the order of their blocks."""

    @abstractmethod
    def check(self, found: Found, channels: int, count: int | None) -> None:
        """See that `found` can be in so many channels of `count` pixels each, None for some.

        Raises InconsistentError.
        """

    @abstractmethod
    def encode(self, found: Found) -> Any:
        """Return `found` as what JSON holds."""

    @abstractmethod
    def decode(self, value: Any) -> Found:
        """Return what `encode` was given."""


class Nothing(Gather[None]):
    """Nothing: the pixels are gone through to refuse what is not finite."""

    def gather(self, blocks: Iterable[NDArray[Any]]) -> None:
        """Go through `blocks`."""
        for _ in blocks:
            pass

    def merge(self, parts: Sequence[None]) -> None:
        """Do nothing."""

    def check(self, found: None, channels: int, count: int | None) -> None:
        """Accept nothing, which is in any pixels."""

    def encode(self, found: None) -> None:
        """Return None."""

    def decode(self, value: Any) -> None:
        """Refuse what is not None."""
        if value is not None:
            raise ValueError(f"{value!r} is found where nothing is looked for")


@dataclass(frozen=True)
class Pass(Generic[Found]):
    """One reading of all pixels."""

    before: tuple[Pointwise, ...]
    """What is done to the pixels first."""
    together: bool
    """Whether all channels count as one."""
    gather: Gather[Found]

    def over(self, pixels: Pixels) -> Found:
        """Return what is found in `pixels`, which may be a part of the image's.

        Raises:
            ImageError: if they cannot be read, or are not finite.
        """
        pixels = pixels.after(self.before)
        if self.together:
            pixels = pixels.together()
        return self.gather.gather(pixels.blocks())


def require(*, possible: bool) -> None:
    """Raise InconsistentError unless that is `possible`."""
    if not possible:
        raise InconsistentError("no pixels have such sums, extremes or counts")


class Reader(Protocol):
    """Says what a pass over the whole image finds, by reading the image or from what is known."""

    def __call__(self, wanted: Pass[Found], /) -> Found:
        """Return what `wanted` finds."""
