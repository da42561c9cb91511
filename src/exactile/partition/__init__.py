"""Exact spatial partitioning: an unmodified network on a volume split over ranks."""

from __future__ import annotations

from exactile.partition import (  # noqa: F401 - importing a family registers its rules
    adaptive,
    beside,
    convolution,
    extremes,
    mirroring,
    normalization,
    overloads,
    padding,
    pointwise,
    pooling,
    reduction,
    shape,
    softmax,
    upsampling,
)
from exactile.partition.layout import Split, even_cuts
from exactile.partition.mesh import Mesh
from exactile.partition.module import Partitioned, distribute, partition
from exactile.partition.refusal import LostRank, NotPartitioned, PartitionError
from exactile.partition.tensor import SplitTensor

__all__ = [
    "LostRank",
    "Mesh",
    "NotPartitioned",
    "PartitionError",
    "Partitioned",
    "Split",
    "SplitTensor",
    "distribute",
    "even_cuts",
    "partition",
]
