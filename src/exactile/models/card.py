"""The model card: everything about a network that its weights do not say.

A model is a folder with `model.json`, a card as below, and the safetensors file that it names.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

CARD_NAME = "model.json"


Width = Annotated[int, Field(ge=1, le=2**16)]
"""Channels of a feature map."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Network(_Strict):
    dimensions: ClassVar[int] = 2
    """Spatial axes: 2 for planes, 3 for volumes."""

    name: str
    channels: Width
    """Input channels."""
    classes: Annotated[int, Field(ge=2, le=255)]
    """Output channels."""


class _UNet(_Network):
    base_width: Width
    """Channels at the finest level; doubled at every level below."""
    depth: Annotated[int, Field(ge=1, le=8)]
    """Number of poolings; F is 2 to this power."""
    convolutions: Annotated[int, Field(ge=1, le=64)]
    """Convolutions in each block."""
    kernel_size: Annotated[int, Field(ge=1, le=255)] = 3
    """Side of the convolutions, in pixels; odd."""


class UNetArchitecture(_UNet):
    """The arguments of `exactile.models.unet.UNet`."""

    name: Literal["unet"]


class UNet3dArchitecture(_UNet):
    """The arguments of `exactile.models.unet3d.UNet3d`."""

    dimensions: ClassVar[int] = 3

    name: Literal["unet3d"]


class FCDenseNetArchitecture(_Network):
    """The arguments of `exactile.models.fc_densenet.FCDenseNet`."""

    name: Literal["fc_densenet"]
    layers: Literal[56, 67, 103]
    """Which of the published networks."""
    first_width: Width = 48
    """Channels of the first convolution."""
    growth: Width | None = None
    """New features of each dense layer; that of the published network unless given."""


class SegNetArchitecture(_Network):
    """The arguments of `exactile.models.segnet.SegNet`."""

    name: Literal["segnet"]
    base_width: Width = 64
    """Channels at the finest level."""


class FCNVGG16Architecture(_Network):
    """The arguments of `exactile.models.fcn_vgg16.FCNVGG16`."""

    name: Literal["fcn_vgg16"]
    base_width: Width = 64
    """Channels at the finest level."""


Architecture = (
    UNetArchitecture
    | UNet3dArchitecture
    | FCDenseNetArchitecture
    | SegNetArchitecture
    | FCNVGG16Architecture
)
"""The networks that are known by name."""


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
    architecture: Annotated[Architecture, Field(discriminator="name")]
    normalization: Literal["zscore"]
    """`zscore`: each channel of the whole image, by its own mean and standard deviation."""
    output_meaning: Literal["logits"] = "logits"
    """What the network returns: logits, of which softmax makes probabilities."""
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
