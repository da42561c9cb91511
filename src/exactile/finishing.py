"""What becomes of the network's output: labels, probabilities, or what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exactile.errors import ModelError
from exactile.meaning.reading import Meaning
from exactile.normalization import describe
from exactile.normalization.apply import apply
from exactile.normalization.apply_on_device import apply_on_device
from exactile.processing import After, Sigmoid, Softmax

OutputType = Literal["labels", "probabilities", "logits"]

Arriving = Callable[[], NDArray[Any]]
"""Gives what is written for a zone (C, ...), once the device and main memory have done the rest;
to be called once, by any thread."""

MOST_SMALL_CLASSES = 256
"""So many classes have numbers of 8 bits."""


@dataclass(frozen=True)
class Finishing:
    """What a model declares as its result, and how labels follow from it."""

    after: tuple[After, ...]
    """From the network's output to the declared result: what `probabilities` are."""
    numbers: bool = False
    """The output are numbers of classes, in one channel."""

    def declared(self, output: Tensor) -> Tensor:
        """Return the declared result for `output` (K, ...), float32 of the same shape and device.

        On a CPU it is numpy that computes, whose exponential does not depend on the place.
        """
        if output.device.type == "cpu":
            return torch.from_numpy(apply(self.after, output.numpy()))
        return apply_on_device(self.after, output)

    @property
    def keeps_order(self) -> bool:
        """Whether the largest channel of the output is the largest of the declared result."""
        return not self.numbers and all(isinstance(step, (Softmax, Sigmoid)) for step in self.after)

    def describe(self) -> str:
        """Return in words what becomes of the output."""
        return "numbers of classes, as they are" if self.numbers else describe(self.after)

    def labels(self, output: Tensor) -> Tensor:
        """Return the class numbers (...) for `output` (K, ...), uint8, or int32 beyond 256 classes.

        Of several channels, the first of the largest. Softmax and sigmoid keep the order of the
        channels, so the output itself decides, which rounding to equal probabilities cannot blur;
        after any other step the declared result decides. A single channel is foreground, 1, where
        the declared result is above 0.5, which for a sigmoid is an output above 0. Numbers of
        classes are labels as they are.

        Raises:
            ModelError: if they are no whole numbers, or more than labels can hold.
        """
        if self.numbers:
            return _as_labels(output[0])
        if len(output) == 1:
            if self.after == (Sigmoid(),):
                return (output[0] > 0).to(torch.uint8)
            return (self.declared(output)[0] > 0.5).to(torch.uint8)
        return _first_largest(output if self.keeps_order else self.declared(output))


def finishing_for(meaning: Meaning | None, outputs: int) -> Finishing:
    """Return what is usual for an output of `outputs` channels with this meaning.

    Of logits, softmax for several channels, sigmoid for one. Where the meaning is not known, the
    declared result is the output as it is.
    """
    if meaning == "logits":
        return Finishing((Softmax() if outputs > 1 else Sigmoid(),))
    return Finishing((), numbers=meaning == "classes")


def label_dtype(classes: int) -> np.dtype[Any]:
    """Return the type of labels for so many output channels: uint8, beyond 256 uint16."""
    return np.dtype(np.uint8 if classes <= MOST_SMALL_CLASSES else np.uint16)


def finish(output: Tensor, output_type: OutputType, finishing: Finishing) -> NDArray[Any]:
    """Return what is written for `output` (K, Y, X) or (K, Z, Y, X), float32 on any device.

    Labels are (1, ...), of `label_dtype(K)`. Probabilities, what the model declares as its result,
    and logits, the output as it is, are float32 (K, ...). What a pixel gets depends on its own K
    numbers alone, to the last bit.
    """
    return begin_to_finish(output, output_type, finishing)()


def begin_to_finish(output: Tensor, output_type: OutputType, finishing: Finishing) -> Arriving:
    """Begin what `finish` does, and return what gives its result.

    A GPU finishes by itself, and hands only the result over, while it goes on with other work. On a
    CPU, what PyTorch's threads do at once is done here; numpy's part is left to the thread that
    takes the result, beside the next forward pass. `output` may be written to after this.
    """
    with torch.inference_mode():
        if output.device.type != "cpu":
            return _on_its_way(_finished(output, output_type, finishing), len(output))
        if output_type == "labels" and finishing.keeps_order:
            labels = _finished(output, output_type, finishing)
            return lambda: _as_array(labels, len(output))
        own = output.clone(memory_format=torch.contiguous_format)

    def later() -> NDArray[Any]:
        with torch.inference_mode():
            return _as_array(_finished(own, output_type, finishing), len(own))

    return later


def _finished(output: Tensor, output_type: OutputType, finishing: Finishing) -> Tensor:
    """Return the result (C, ...) on the device of `output`; labels as `Finishing.labels` has them.

    `output` belongs to this: logits are handed on as they are.
    """
    if output_type == "labels":
        return finishing.labels(output)[None]
    return finishing.declared(output) if output_type == "probabilities" else output


def _on_its_way(values: Tensor, classes: int) -> Arriving:
    """Begin to copy `values` from a GPU into page-locked memory, in the order of its work."""
    target = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    target.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(values.device))

    def wait() -> NDArray[Any]:
        copied.synchronize()
        return _as_array(target, classes)

    return wait


def _as_array(values: Tensor, classes: int) -> NDArray[Any]:
    array: NDArray[Any] = values.numpy()
    # Few operators of PyTorch know uint16, so such labels were int32 until here.
    return array if values.is_floating_point() else array.astype(label_dtype(classes), copy=False)


def _as_labels(numbers: Tensor) -> Tensor:
    """Return numbers of classes as uint8.

    Raises:
        ModelError: if they are none.
    """
    # NaN is not equal to itself.
    odd = numbers[(numbers != numbers.round()) | (numbers < 0) | (numbers >= MOST_SMALL_CLASSES)]
    if odd.numel():
        raise ModelError(
            f"the network's output is taken for numbers of classes, but holds "
            f"{float(odd[0]):g}; labels are whole numbers from 0 to "
            f"{MOST_SMALL_CLASSES - 1}: say what it is with --outputMeaning, or use --outputType "
            "logits"
        )
    return numbers.to(torch.uint8)


def _first_largest(output: Tensor) -> Tensor:
    """Return for each pixel of `output` (K, ...) the first of its largest channels.

    It is argmax, which reduces over a strided axis: on CPU that took 70 ms for two classes of
    1024 x 1024 pixels, the comparisons take 4 ms.
    """
    second = output[1] > output[0]
    labels = second.view(torch.uint8) if len(output) <= MOST_SMALL_CLASSES else second.int()
    largest = output[0]
    for index in range(2, len(output)):
        largest = torch.maximum(largest, output[index - 1])
        labels.masked_fill_(output[index] > largest, index)
    return labels
