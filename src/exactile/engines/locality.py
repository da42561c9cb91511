"""The proof of locality through an engine itself.

`exactile.locality.poison` proves on the weights, with PyTorch, what a zone depends on. Another
engine could still look further, by fusing or cutting the work in its own way. NaN would not show
that: OpenVINO's activations turn NaN into numbers. So everything outside the claimed dependency of
an interior zone is replaced by other finite numbers, of several kinds, in a window of one shape,
and the zone must keep its bits.
"""

from __future__ import annotations

import torch

from exactile.engine import Engine
from exactile.engines.agreement import DisagreementError
from exactile.locality import Analysis
from exactile.locality.poison import (
    MAX_PIXELS,
    boxes,
    finite_poisons,
    inner_zone,
    pixels,
    same_bits,
    test_images,
)


def confirm_locality(engine: Engine, analysis: Analysis, channels: int) -> None:
    """See that an interior zone keeps its bits, whatever lies outside its dependency.

    One zone in one test image; where that takes too many pixels, one in a strip along each axis.

    Raises:
        RuntimeError, MemoryError: if the network cannot be run.
        DisagreementError: if the zone changes, which is a ModelError.
    """
    generator = torch.Generator().manual_seed(0)
    for extent, axes in test_images(analysis, MAX_PIXELS):
        shape = (1, channels, *extent)
        image = torch.randn(shape, generator=generator)
        zone, kept = boxes(analysis, extent, inner_zone(analysis, extent, axes))
        clean = engine.logits(image.numpy())[pixels(zone)]
        for poison in finite_poisons(shape, generator):
            poison[pixels(kept)] = image[pixels(kept)]
            if same_bits(engine.logits(poison.numpy())[pixels(zone)], clean):
                continue
            size = " x ".join(map(str, extent))
            raise DisagreementError(
                f"the network's locality does not hold on {engine.describe()}: a zone inside a "
                f"window of {size} changes with input outside the dependency that was traced; use "
                "--engine eager, and report it as a defect of exactile"
            )
