"""Which operators are replaced, and by what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Replacement = Callable[..., Any]
REPLACEMENTS: dict[Any, Replacement] = {}
"""By operator overload; a replacement that returns `NotImplemented` leaves a call as it was."""


def replaces(*operators: Any) -> Callable[[Replacement], Replacement]:
    """Register a function for operators of the same arguments."""

    def register(replacement: Replacement) -> Replacement:
        REPLACEMENTS.update(dict.fromkeys(operators, replacement))
        return replacement

    return register
