"""The description of an image to be written, as JSON has it and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from exactile.images.metadata import ImageMetadata, PhysicalSize
from exactile.images.sink import OutputImage


def image_to_record(image: OutputImage) -> dict[str, Any]:
    """Return `image` in kinds that JSON has."""
    return asdict(image) | {"shape": list(image.shape), "dtype": image.dtype.name}


def image_from_record(record: Mapping[str, Any]) -> OutputImage:
    """Return the image that `record` describes.

    Raises KeyError, TypeError or ValueError for what `image_to_record` has not made.
    """
    height, width = record["shape"]
    stored = record["metadata"]
    sizes = {axis: _size(stored[axis]) for axis in "xyz"}
    metadata = ImageMetadata(**{**stored, **sizes, "channels": tuple(stored["channels"])})
    facts = {
        "shape": (height, width),
        "dtype": np.dtype(record["dtype"]),
        "metadata": metadata,
        "labels": tuple(record["labels"]),
    }
    return OutputImage(**{**record, **facts})


def _size(record: Mapping[str, Any] | None) -> PhysicalSize | None:
    return None if record is None else PhysicalSize(**record)
