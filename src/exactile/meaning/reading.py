"""What a network's output is taken for, and why: said by the user, by the file, or proven."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exactile.meaning.values import UNKNOWN, Values

Meaning = Literal["logits", "probabilities", "classes"]
"""Numbers of any size, of which softmax or sigmoid makes probabilities; numbers from 0 to 1; or
numbers of classes, in one channel."""

Asked = Literal["auto", "logits", "probabilities", "classes"]

OPTION = "--outputMeaning logits, probabilities or classes"


@dataclass(frozen=True)
class Reading:
    """What an output is taken for."""

    meaning: Meaning | None
    """None where nothing says it, or where the file's own steps say what follows from it."""
    why: str
    """Where that comes from, in words."""
    values: Values = UNKNOWN
    """What the operators prove of the output, where that was looked at."""

    def sentence(self) -> str:
        """Return what is known in words."""
        return f"{self.meaning or 'not known'}: {self.why}"


def read(values: Values, outputs: int, last: str) -> Reading:
    """Return what an output of so many channels means, as far as its `values` prove it.

    `last` is the operator that made them. Logits are what was made by weights on features and takes
    both signs, and logarithms of probabilities that add up to 1, which softmax turns back.
    """
    if values.numbers:
        if outputs == 1:
            return Reading("classes", f"{last} gives places of channels", values)
        return Reading(None, f"{last} gives several numbers of channels", values)
    if values.within_one:
        return Reading("probabilities", f"{last} gives {values.sentence()}", values)
    if values.free:
        return Reading("logits", f"{last} gives numbers of both signs, without bounds", values)
    if values.logarithms == outputs > 1:
        return Reading("logits", f"{last} gives logarithms that softmax turns back", values)
    return Reading(None, f"{last} gives {values.sentence()}", values)


def contradiction(said: Meaning, values: Values) -> str:
    """Return how the operators contradict what the user says of an output; empty if they do not."""
    if said == "logits" and values.numbers:
        return "its operators give numbers of classes"
    if said == "logits" and values.within_one:
        return "its operators give numbers from 0 to 1, of which another sigmoid or softmax is made"
    if said != "logits" and values.free:
        return "its operators give numbers of both signs, without bounds"
    return ""
