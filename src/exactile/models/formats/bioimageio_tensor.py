"""One tensor of a bioimage.io description, alike for the formats 0.4 and 0.5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from exactile.errors import ModelError

LETTERS = {"batch": "b", "channel": "c", "time": "t", "index": "i"}
"""Axes by their type in 0.5; those of space go by their name."""

SPACE = ("yx", "zyx")
"""Spatial axes of planes and of volumes, in array order."""

Step = tuple[str, dict[str, Any]]
"""Name of an operation, and its arguments."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a description says about the network's input, or its output."""

    what: str
    """For refusals: `input raw`, `output probability`."""
    name: str
    axes: str
    """One letter for each axis, in the network's order: b, c, and z, y, x."""
    channels: int | None
    channel_names: tuple[str, ...] | None
    halo: dict[str, int]
    """By the letter of an axis; empty where none is declared."""
    dtype: str
    steps: tuple[Step, ...]
    """Pre- or post-processing."""

    @property
    def space(self) -> str:
        """Letters of the spatial axes, in array order."""
        return "".join(letter for letter in "zyx" if letter in self.axes)


def tensor_of(descr: Any, what: str) -> Tensor:
    """Return a tensor's description; `what` names file and tensor in a refusal.

    Raises:
        ModelError: if it has axes that an image has not, or lacks some.
    """
    tensor = _of_letters(descr, what) if isinstance(descr.axes, str) else _of_axes(descr, what)
    if tensor.space not in SPACE or sorted(tensor.axes) != sorted("bc" + tensor.space):
        raise ModelError(
            f"{what}: has the axes {', '.join(tensor.axes)}, but networks are run here that take "
            "b, c, y, x or b, c, z, y, x (in any order); wrap the network and describe that"
        )
    return tensor


def steps_of(steps: Any) -> tuple[Step, ...]:
    """Return operations with their arguments, of either format."""
    return tuple(
        (
            str(getattr(step, "id", None) or step.name),
            dict(step.kwargs)
            if isinstance(step.kwargs, dict)
            else step.kwargs.model_dump(mode="json"),
        )
        for step in steps
    )


def letters_of(axes: Any, tensor: Tensor) -> str:
    """Return the letters of axes that an operation names, of either format."""
    if isinstance(axes, str):
        return axes
    return "".join(LETTERS.get(str(axis), str(axis)) for axis in axes)


def _of_letters(descr: Any, what: str) -> Tensor:
    """Format 0.4: a letter for each axis, and lists of the same length."""
    axes = str(descr.axes)
    minimum = getattr(descr.shape, "min", descr.shape)
    steps = getattr(descr.shape, "step", None)
    channels = None
    place = axes.find("c")
    if place >= 0 and isinstance(minimum, (list, tuple)) and not (steps and steps[place]):
        channels = int(minimum[place])
    halo = getattr(descr, "halo", None) or ()
    return Tensor(
        what=what,
        name=str(descr.name),
        axes=axes,
        channels=channels,
        channel_names=None,
        halo=dict(zip(axes, map(int, halo), strict=False)),
        dtype=str(descr.data_type),
        steps=steps_of(_steps(descr)),
    )


def _of_axes(descr: Any, what: str) -> Tensor:
    """Format 0.5: an object for each axis."""
    letters = [LETTERS.get(axis.type, str(axis.id)) for axis in descr.axes]
    long = [letter for letter in letters if len(letter) > 1]
    if long:
        raise ModelError(
            f"{what}: has a spatial axis {long[0]!r}; name the spatial axes x, y and z"
        )
    names: tuple[str, ...] | None = None
    for axis in descr.axes:
        if axis.type == "channel":
            names = tuple(map(str, axis.channel_names))
    data = descr.data if isinstance(descr.data, (list, tuple)) else [descr.data]
    return Tensor(
        what=what,
        name=str(descr.id),
        axes="".join(letters),
        channels=None if names is None else len(names),
        channel_names=names,
        halo={
            letter: int(axis.halo)
            for letter, axis in zip(letters, descr.axes, strict=True)
            if getattr(axis, "halo", None)
        },
        dtype=str(data[0].type),
        steps=steps_of(_steps(descr)),
    )


def _steps(descr: Any) -> Any:
    return getattr(descr, "preprocessing", None) or getattr(descr, "postprocessing", None) or ()
