"""The experiments' networks as values: what to build, from which seed, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exactile.locality.unet import formula_radius

ImageKind = Literal["slide", "noise"]
"""A synthetic slide, normalised; or N(0, 1) noise."""


@dataclass(frozen=True, slots=True)
class BundledUNet:
    """The bundled model: a trained U-Net of depth 4, n = 2 and base width 16."""

    width: int = 16
    trained: bool = True

    @property
    def title(self) -> str:
        """The network in words."""
        return f"trained U-Net, depth 4, n = 2, base width {self.width}"

    @property
    def formula(self) -> int:
        """The published radius before rounding, in pixels."""
        return formula_radius(4, 2)

    @property
    def held(self) -> float:
        """Float32 values that a whole-image pass holds for each pixel, about."""
        return _held_by_unet(self.width)


@dataclass(frozen=True, slots=True)
class RandomUNet:
    """A U-Net with seeded random weights."""

    width: int
    depth: int
    convolutions: int
    classes: int = 2
    calibrated: ImageKind | None = None
    """Images that the batch statistics are taken from; None leaves them as Keras starts them."""
    trained: bool = False

    @property
    def title(self) -> str:
        """The network in words."""
        return (
            f"untrained U-Net, depth {self.depth}, n = {self.convolutions}, "
            f"{self.classes} classes, base width {self.width}"
        )

    @property
    def formula(self) -> int:
        """The published radius before rounding, in pixels."""
        return formula_radius(self.depth, self.convolutions)

    @property
    def held(self) -> float:
        """Float32 values that a whole-image pass holds for each pixel, about."""
        return _held_by_unet(self.width)


@dataclass(frozen=True, slots=True)
class RandomFCDenseNet56:
    """FC-DenseNet-56 with seeded random weights, batch statistics from slides."""

    calibrated: ImageKind | None = "slide"
    trained: bool = False

    @property
    def title(self) -> str:
        """The network in words."""
        return "untrained FC-DenseNet-56"

    @property
    def formula(self) -> int:
        """The published radius before rounding, in pixels."""
        return 377

    @property
    def held(self) -> float:
        """Float32 values that a whole-image pass holds for each pixel, about (measured on CPU)."""
        return 720.0


Recipe = BundledUNet | RandomUNet | RandomFCDenseNet56


def _held_by_unet(width: int) -> float:
    """Two feature maps, their concatenation, and what else is around then (measured on CPU)."""
    return 5.0 * width
