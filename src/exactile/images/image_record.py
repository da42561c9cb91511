"""The description of an image to be written, as JSON has it and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, get_type_hints

import numpy as np
from pydantic import TypeAdapter, create_model

from exactile.images.metadata import PIXEL_TYPES
from exactile.images.sink import OutputImage
from exactile.stored_json import MalformedError, checked

LARGEST = 2**31
"""No size of an image is larger."""

_KINDS: dict[str, Any] = get_type_hints(OutputImage) | {"dtype": Literal[tuple(PIXEL_TYPES)]}
_FIELDS: dict[str, Any] = {name: (kind, ...) for name, kind in _KINDS.items()}
_STORED: TypeAdapter[Any] = TypeAdapter(create_model("OutputImage", **_FIELDS))


def image_to_record(image: OutputImage) -> dict[str, Any]:
    """Return `image` in kinds that JSON has."""
    return asdict(image) | {"shape": list(image.shape), "dtype": image.dtype.name}


def image_from_record(record: Mapping[str, Any]) -> OutputImage:
    """Return the image that `record` describes.

    Raises MalformedError for what `image_to_record` has not made.
    """
    stored = checked(_STORED, record)
    facts = {name: getattr(stored, name) for name in _KINDS}
    try:
        image = OutputImage(**facts | {"dtype": np.dtype(stored.dtype)})
    except ValueError as error:
        raise MalformedError(str(error)) from error
    sizes = (image.metadata.x, image.metadata.y, image.metadata.z)
    if max(image.dimensions) > LARGEST or any(size and not size.value > 0 for size in sizes):
        raise MalformedError(f"an image of {image.dimensions} has no such sizes")
    return image
