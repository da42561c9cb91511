"""The options of `exactile partition`: those of segment that apply, and how ranks are arranged."""

from __future__ import annotations

import re
from typing import Any

from pydantic import field_validator

from exactile.settings import SegmentSettings

OPTIONS = (
    *("inp_dir", "out_dir", "file_pattern", "model", "output", "channels", "normalization"),
    *("output_type", "output_meaning", "device", "precision", "channel", "mesh", "axes", "timeout"),
)
"""The fields that the command has options for; the others keep their defaults."""

LONGEST_TIMEOUT = 7 * 24 * 3600


class PartitionSettings(SegmentSettings):
    """The options of `exactile partition`; each field is the option of the same name."""

    mesh: tuple[int, ...] | None = None
    """Ranks along each split axis, such as 2x2; by default what exchanges the fewest bytes."""
    axes: str | None = None
    """Which axes are split, such as YX; by default any."""
    timeout: int = 1800
    """Seconds that a rank waits for another one that neither answers nor ends."""

    @field_validator("mesh", mode="before")
    @classmethod
    def _mesh_from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if not re.fullmatch(r"[1-9]\d{0,4}(x[1-9]\d{0,4}){0,2}", value.strip()):
            raise ValueError("is no mesh; use ranks along each split axis, such as 4 or 2x2")
        return tuple(int(side) for side in value.split("x"))

    @field_validator("axes", mode="before")
    @classmethod
    def _axes_in_order(cls, value: Any) -> Any:
        text = str(value).strip().upper()
        if not re.fullmatch("Z?Y?X?", text) or not text:
            raise ValueError("are no axes of an image; use some of Z, Y and X in this order")
        return text

    @field_validator("timeout", mode="before")
    @classmethod
    def _seconds_from_text(cls, value: Any) -> Any:
        text = str(value).strip()
        if not text.isdecimal() or not 1 <= int(text) <= LONGEST_TIMEOUT:
            raise ValueError(f"is not a number of seconds; use 1 to {LONGEST_TIMEOUT}")
        return int(text)

    def given(self) -> dict[str, Any]:
        """Return the options as a certificate has them."""
        return self.model_dump(mode="json", by_alias=True, include=set(OPTIONS))
