"""One function for each operator, by family; to import them enters them in the tables."""

from exactile.models.onnx.operators import (
    convolution,
    normalization,
    pointwise,
    pooling,
    quantization,
    reduction,
    resizing,
    shape,
    sizes,
)

__all__ = [
    "convolution",
    "normalization",
    "pointwise",
    "pooling",
    "quantization",
    "reduction",
    "resizing",
    "shape",
    "sizes",
]
