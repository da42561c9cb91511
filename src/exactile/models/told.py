"""What the user says of a model, where its file leaves it open."""

from __future__ import annotations

from dataclasses import dataclass

from exactile.meaning.reading import Asked
from exactile.processing import Before

MOST_CHANNELS = 4096
"""More are a mistake."""


@dataclass(frozen=True, slots=True)
class Told:
    """The user's word; what is not said is left to the file and to what tracing proves."""

    before: tuple[Before, ...] | None = None
    """How images are normalised."""
    channels: int | None = None
    """How many channels the network takes."""
    output: str | None = None
    """Which of several outputs is segmented: its name, or its place from 0."""
    meaning: Asked = "auto"
    """What the output means."""


NOTHING = Told()


def parse_channel_count(value: object) -> int:
    """Return the number of channels that `value` says.

    Raises:
        ValueError: if it is none.
    """
    text = str(value).strip()
    if not text.isdecimal() or not 1 <= int(text) <= MOST_CHANNELS:
        raise ValueError(f"is not a number of channels; use 1 to {MOST_CHANNELS}, such as 3")
    return int(text)
