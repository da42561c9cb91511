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
from exactile.normalization.apply import apply
from exactile.normalization.apply_on_device import apply_on_device
from exactile.processing import After, Sigmoid, Softmax

OutputType = Literal["labels", "probabilities", "logits"]

Arriving = Callable[[], NDArray[Any]]
"""Gives what is written for a zone (C, ...), once the device and main memory have done the rest;
to be called once, by any thread."""

MOST_SMALL_CLASSES = 256
"""So many classes have numbers of 8 bits."""

ENDS_IN_PROBABILITIES = (
    "aten.sigmoid",
    "aten.special_expit",
    "aten.hardsigmoid",
    "aten.softmax",
    "aten._softmax",
)
"""Operators that give numbers from 0 to 1: a network that ends in one needs no further step."""

ENDS_IN_CLASSES = ("aten.argmax", "aten.argmin")
"""Operators that give numbers of classes."""

ENDS_IN_LOGARITHMS = ("aten.log_sigmoid", "aten.log_sigmoid_forward")
"""Operators that give logarithms of probabilities which no usual step turns back.

Softmax turns back a log_softmax: it does not change by what is added to all channels of a pixel.
"""


@dataclass(frozen=True)
class Finishing:
    """What a model declares as its result, and how labels follow from it."""

    after: tuple[After, ...]
    """From the network's output to the declared result: what `probabilities` are."""

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
        return all(isinstance(step, (Softmax, Sigmoid)) for step in self.after)

    def labels(self, output: Tensor) -> Tensor:
        """Return the class numbers (...) for `output` (K, ...), uint8, or int32 beyond 256 classes.

        Of several channels, the first of the largest. Softmax and sigmoid keep the order of the
        channels, so the output itself decides, which rounding to equal probabilities cannot blur;
        after any other step the declared result decides. A single channel is foreground, 1, where
        the declared result is above 0.5, which for a sigmoid is an output above 0.
        """
        if len(output) == 1:
            if self.after == (Sigmoid(),):
                return (output[0] > 0).to(torch.uint8)
            return (self.declared(output)[0] > 0.5).to(torch.uint8)
        return _first_largest(output if self.keeps_order else self.declared(output))


def default_finishing(outputs: int, ends_in: str) -> Finishing:
    """Return what is usual for a network of `outputs` channels whose file declares nothing.

    `ends_in` is its last operator, such as `aten.sigmoid`. An output that is a probability stays as
    it is; anything else is taken as logits: softmax for several channels, sigmoid for one.

    Raises:
        ModelError: if the output is numbers of classes, or a logarithm of probabilities that
            neither softmax nor sigmoid turns back.
    """
    if ends_in in ENDS_IN_LOGARITHMS:
        raise ModelError(
            f"the network ends in {ends_in}: its output is neither a logit nor a probability; "
            "leave that operator out, or end in sigmoid"
        )
    if ends_in in ENDS_IN_CLASSES:
        raise ModelError(
            f"the network ends in {ends_in}: its output are numbers of classes, from which nothing "
            "else follows; leave that operator out, labels are made here"
        )
    if ends_in in ENDS_IN_PROBABILITIES:
        return Finishing(())
    return Finishing((Softmax() if outputs > 1 else Sigmoid(),))


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
