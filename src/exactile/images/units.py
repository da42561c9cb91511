"""Units of length and time by the many names that files give them.

    micrometer, micrometre, microns, um, µm (with either mu)     all are µm

What is kept is the symbol that OME-XML has for it. The words of OME-NGFF are the names in OME-XML's
list, in small letters.
"""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import Any

_MORE_LENGTHS = {
    "um": "µm",
    "micron": "µm",
    "A": "Å",
    "ångström": "Å",
    "ångstrom": "Å",
    "inches": "in",
    "feet": "ft",
    "px": "pixel",
    "pix": "pixel",
}
_MORE_TIMES = {
    "sec": "s",
    "msec": "ms",
    "usec": "µs",
    "us": "µs",
    "minute": "min",
    "hr": "h",
}
_MICRO_SIGNS = ("\N{GREEK SMALL LETTER MU}", "\N{MICRO SIGN}")


def length_unit(text: object) -> str | None:
    """Return OME-XML's symbol of a unit of length; None where it is none that is known.

    >>> length_unit("microns"), length_unit("Micrometre"), length_unit("mm"), length_unit("barn")
    ('µm', 'µm', 'mm', None)
    """
    return _find(text, _lengths())


def time_unit(text: object) -> str | None:
    """Return OME-XML's symbol of a unit of time; None where it is none that is known.

    >>> time_unit("second"), time_unit("msec"), time_unit("hours")
    ('s', 'ms', 'h')
    """
    return _find(text, _times())


def ngff_unit(symbol: str) -> str | None:
    """Return OME-NGFF's word for OME-XML's `symbol`; None for pixels, which it has no word for.

    >>> ngff_unit("µm"), ngff_unit("min"), ngff_unit("pixel")
    ('micrometer', 'minute', None)
    """
    from ome_types.model import UnitsLength, UnitsTime

    if symbol in (UnitsLength.PIXEL.value, UnitsLength.REFERENCEFRAME.value):
        return None
    kind = UnitsLength if symbol in {unit.value for unit in UnitsLength} else UnitsTime
    return kind(symbol).name.lower()


def _find(text: object, known: dict[str, str]) -> str | None:
    if not isinstance(text, str):
        return None
    word = text.strip().replace(*_MICRO_SIGNS)
    small = word.lower().removesuffix(".")
    singular = small.removesuffix("s") if len(small) > 2 else small
    # Symbols first and as they stand: Mm is no mm.
    return next((known[each] for each in (word, small, singular) if each in known), None)


@cache
def _lengths() -> dict[str, str]:
    from ome_types.model import UnitsLength

    return _names(UnitsLength) | _MORE_LENGTHS


@cache
def _times() -> dict[str, str]:
    from ome_types.model import UnitsTime

    return _names(UnitsTime) | _MORE_TIMES


def _names(units: type[Enum]) -> dict[str, Any]:
    """Return the symbols of `units` by their names, American and British, and by themselves."""
    found: dict[str, Any] = {}
    for unit in units:
        name = unit.name.lower()
        found |= {unit.value: unit.value, name: unit.value}
        if name.endswith("meter"):
            found[f"{name[:-2]}re"] = unit.value
    return found
