"""The axes of an OME-Zarr image, in any order and of any version, by their names and types.

0.1 and 0.2 have none: they are always T, C, Z, Y, X. 0.3 has names; 0.4 and later have names, types
and units. The order that 0.4 and later ask for is not asked for here: what writers have written in
another one is known all the same, as each axis says which one it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

AXES = ("t", "c", "z", "y", "x")
"""Those of what is written, in order."""

TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}

_NAMES = {"time": "t", "channel": "c"} | {name: name for name in AXES}


class NgffError(ValueError):
    """What a folder says is not an image of OME-NGFF; the text says why, without the folder."""


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis says of itself."""

    name: str
    """t, c, z, y or x; another one for an axis of another kind."""
    unit: Any = None
    """As it is given."""


@dataclass(frozen=True, slots=True)
class AxisOrder:
    """Which axis of an array is which."""

    y: int
    x: int
    t: int | None = None
    c: int | None = None
    z: int | None = None
    other: int | None = None
    """An axis of another type, which is of no use here."""

    @property
    def count(self) -> int:
        """Number of axes."""
        return sum(
            axis is not None for axis in (self.t, self.c, self.z, self.y, self.x, self.other)
        )

    @classmethod
    def of(cls, axes: Sequence[Axis]) -> AxisOrder:
        """Return the order of `axes`, no two of which are alike."""
        places = {axis.name: place for place, axis in enumerate(axes)}
        other = [place for name, place in places.items() if name not in AXES]
        known = {name: place for name, place in places.items() if name in AXES}
        return cls(**known, other=other[0] if other else None)


def parse_axes(entry: Mapping[str, Any]) -> tuple[Axis, ...]:
    """Return the axes of an entry of `multiscales`.

    Raises NgffError where they are not said, or contradict themselves.
    """
    given = entry.get("axes")
    if given is None:
        if entry.get("version") not in (None, "0.1", "0.2"):
            raise NgffError("has no `axes`, which say what the axes of its arrays are")
        return tuple(map(Axis, AXES))
    if not isinstance(given, list) or not given:
        raise NgffError(f"has `axes` that are no list of axes: {given!r}")
    described = [{"name": axis} if isinstance(axis, str) else axis for axis in given]
    if not all(isinstance(a, Mapping) and isinstance(a.get("name"), str) for a in described):
        raise NgffError(f"has `axes` without names: {given!r}")
    axes = tuple(
        Axis(name, axis.get("unit"))
        for name, axis in zip(_names(described), described, strict=True)
    )
    _check(axes)
    return axes


def _names(described: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of axes in our words."""
    names = []
    for axis in described:
        name = _NAMES.get(axis["name"].strip().lower(), "")
        kind = axis.get("type", TYPES.get(name))
        if name and kind is not None and kind != TYPES[name]:
            raise NgffError(f"has an axis {axis['name']!r} of type {kind!r}")
        known = {"time": "t", "channel": "c", "space": "space"}
        names.append(name or known.get(str(kind), "other"))
    # Axes of space with names of their own are Z, Y, X in order, if that is what all of them have.
    strange = [place for place, name in enumerate(names) if name == "space"]
    if strange and not {"z", "y", "x"} & set(names) and len(strange) in (2, 3):
        for place, name in zip(strange, "zyx"[-len(strange) :], strict=True):
            names[place] = name
    return names


def _check(axes: Sequence[Axis]) -> None:
    names = [axis.name for axis in axes]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice or "space" in names:
        raise NgffError(
            f"has axes that cannot be told apart: they come to {', '.join(names)}, where each of "
            f"{', '.join(AXES)} may be there once"
        )
    if not {"y", "x"} <= set(names):
        raise NgffError(f"has no axes y and x among its axes {', '.join(names)}")


def check_dimension_names(names: Any, axes: Sequence[Axis]) -> None:
    """Raise NgffError where the names that an array of Zarr 3 gives its axes are other ones."""
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        return
    given = [_NAMES.get(name.strip().lower(), "") for name in names]
    pairs = list(zip(given, (axis.name for axis in axes), strict=False))
    if any(one and two in AXES and one != two for one, two in pairs):
        raise NgffError(
            f"contradicts itself: its axes are {', '.join(axis.name for axis in axes)}, and the "
            f"array calls them {', '.join(names)}"
        )
