"""What the output of a network in a file is taken for, and whether that is enough to write it."""

from __future__ import annotations

import logging
from dataclasses import replace

from exactile.errors import ModelError
from exactile.finishing import MOST_SMALL_CLASSES, Finishing, OutputType
from exactile.locality import Analysis
from exactile.meaning.follow import follow
from exactile.meaning.reading import OPTION, Asked, Reading, contradiction, read
from exactile.models.network_file import NetworkFile
from exactile.processing import Clip, Sigmoid, Softmax, Threshold

logger = logging.getLogger(__name__)


def reading_of(file: NetworkFile, asked: Asked, channels: int, analysis: Analysis) -> Reading:
    """Return what the output of `file`'s network is taken for.

    Raises:
        ModelError: if the user's word contradicts the file, or cannot be.
    """
    if file.after:
        if asked != "auto":
            raise ModelError(
                f"--outputMeaning {asked}: {file.name} says itself what is made of its output; "
                "leave --outputMeaning out"
            )
        return Reading(None, "the file says what is made of it")
    if asked == "classes" and analysis.outputs > 1:
        raise ModelError(
            f"--outputMeaning classes: {file.name} returns {analysis.outputs} channels, but "
            "numbers of classes are one; say logits or probabilities"
        )
    values = follow(file.network, channels, analysis.extent)
    if asked == "auto":
        found = read(values, analysis.outputs, analysis.last)
        if file.after is not None and found.meaning == "logits":
            # It is a declared result, of which nobody said that it is logits.
            return replace(found, meaning=None)
        return found
    said = contradiction(asked, values)
    if said:
        logger.warning("--outputMeaning %s: %s: %s; it is done as asked", asked, file.name, said)
    return Reading(asked, "--outputMeaning says so", values)


def doubt(
    file: NetworkFile, reading: Reading, finishing: Finishing, outputs: int, output_type: OutputType
) -> str:
    """Return why the output cannot be written as `output_type`; empty where it can.

    Which of several channels is the largest is the same for logits and probabilities.
    """
    if output_type == "logits":
        return ""
    if finishing.numbers:
        if output_type == "probabilities":
            return (
                f"its output are numbers of classes ({reading.why}), of which there are no "
                "probabilities; use --outputType labels"
            )
        if reading.values.numbers and reading.values.high >= MOST_SMALL_CLASSES:
            return (
                f"its output are numbers of classes up to {reading.values.high:g}, but labels of "
                f"one channel are at most {MOST_SMALL_CLASSES - 1}; export it without the operator "
                "that chooses the class"
            )
        return ""
    several = outputs > 1 and output_type == "labels" and not reading.values.numbers
    if reading.meaning is not None or several:
        return ""
    if file.after is not None and (output_type == "probabilities" or _ends_within_one(file)):
        return ""
    return f"what its output means cannot be told ({reading.why}): say {OPTION}"


def _ends_within_one(file: NetworkFile) -> bool:
    """Whether the file's own steps end in numbers from 0 to 1, of which 0.5 is the middle."""
    match file.after:
        case (*_, Sigmoid() | Softmax() | Threshold()):
            return True
        case (*_, Clip(low, high)):
            return (low, high) == (0, 1)
        case _:
            return False
