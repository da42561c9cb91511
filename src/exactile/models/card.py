"""The model card: everything about a network that its weights do not say.

A model is a folder with `model.json`, a card as below, and the safetensors file that it names.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

CARD_NAME = "model.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class UNetArchitecture(_Strict):
    """The arguments of `exactile.models.unet.UNet`."""

    name: Literal["unet"]
    channels: Annotated[int, Field(ge=1)]
    """Input channels."""
    classes: Annotated[int, Field(ge=2, le=255)]
    """Output channels."""
    base_width: Annotated[int, Field(ge=1)]
    """Channels at the finest level; doubled at every level below."""
    depth: Annotated[int, Field(ge=1, le=8)]
    """Number of poolings; F is 2 to this power."""
    convolutions: Annotated[int, Field(ge=1)]
    """Convolutions in each block."""
    kernel_size: Annotated[int, Field(ge=1)] = 3
    """Side of the convolutions, in pixels; odd."""


class Weights(_Strict):
    """The file that holds the parameters."""

    file: Annotated[str, Field(pattern=r"^[^/\\]+\.safetensors$")]
    """Name inside the model's folder."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Digest of the file's bytes."""


class Card(_Strict):
    """What a model is, what it expects, and where it comes from."""

    format: Literal["exactile-model-1"]
    name: str
    description: str
    version: str
    architecture: UNetArchitecture
    normalization: Literal["zscore"]
    """`zscore`: each channel of the whole image, by its own mean and standard deviation."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the output channels; class 0 is background."""
    weights: Weights
    license: str
    data_source: str
    acknowledgement: str
    training: dict[str, str | int | float]
    """How it was trained."""
    metrics: dict[str, float]
    """What it reached, by name."""

    @model_validator(mode="after")
    def _one_name_for_each_class(self) -> Self:
        if len(self.classes) != self.architecture.classes:
            raise ValueError(
                f"{len(self.classes)} names of classes for {self.architecture.classes} classes"
            )
        return self
