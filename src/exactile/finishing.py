"""What becomes of the network's output: labels, probabilities, or what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exactile.errors import ModelError
from exactile.normalization.apply import apply
from exactile.processing import After, Sigmoid, Softmax

OutputType = Literal["labels", "probabilities", "logits"]

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

    def declared(self, output: Tensor) -> NDArray[np.float32]:
        """Return the declared result for `output` (K, ...), float32 of the same shape."""
        return apply(self.after, _on_host(output))

    def labels(self, output: Tensor) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Return the class numbers (...) for `output` (K, ...).

        Of several channels, the first of the largest. Softmax and sigmoid keep the order of the
        channels, so the output itself decides, which rounding to equal probabilities cannot blur;
        after any other step the declared result decides. A single channel is foreground, 1, where
        the declared result is above 0.5, which for a sigmoid is an output above 0.
        """
        if len(output) == 1:
            if self.after == (Sigmoid(),):
                return _on_host((output[0] > 0).to(torch.uint8))
            return np.asarray(self.declared(output)[0] > 0.5, np.uint8)
        if not all(isinstance(step, (Softmax, Sigmoid)) for step in self.after):
            output = torch.from_numpy(self.declared(output))
        found: NDArray[Any] = _on_host(_first_largest(output))
        return found.astype(label_dtype(len(output)), copy=False)


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
    with torch.inference_mode():
        if output_type == "labels":
            return finishing.labels(output)[None]
        if output_type == "probabilities":
            return finishing.declared(output)
        return _on_host(output)


def _on_host(values: Tensor) -> NDArray[Any]:
    """Return `values` as a contiguous array in main memory."""
    array: NDArray[Any] = values.contiguous().cpu().numpy()
    return array


def _first_largest(output: Tensor) -> Tensor:
    """Return for each pixel of `output` (K, ...) the first of its largest channels.

    It is argmax, which reduces over a strided axis: on CPU that took 70 ms for two classes of
    1024 x 1024 pixels, the comparisons take 4 ms.
    """
    # Few operators know uint16.
    dtype = torch.uint8 if len(output) <= MOST_SMALL_CLASSES else torch.int32
    labels = torch.zeros_like(output[0], dtype=dtype)
    largest = output[0]
    for index in range(1, len(output)):
        labels.masked_fill_(output[index] > largest, index)
        largest = torch.maximum(largest, output[index])
    return labels
