"""The comparison of an engine with eager PyTorch, before it is used.

Another engine sums in another order and fuses what PyTorch rounds in between; beyond that it must
compute the same network. What differs by more than rounding is another network, or a lower
precision than was asked for. Measured with OpenVINO and 20 networks, most of random weights, the
largest difference of 10,000 to 1,500,000 logits relative to their standard deviation:

    float32     6e-7 to 1e-4, so at most 1e-3 is allowed; bfloat16 in secret would be 1e-2 and more
    bfloat16    0.01 to 0.5, up to 1.3 times what bfloat16 costs PyTorch itself against float32:
                at most 0.2 is allowed, or three times that cost where it is larger
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from exactile.engine import Agreement, Engine, Precision
from exactile.engines.eager import EagerEngine, make_engine
from exactile.errors import ModelError

MOST_DIFFERENCE: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 0.2}
"""Largest difference that needs no further reason, relative to the standard deviation."""

TIMES_THE_COST = 3
"""How much more two results in bfloat16 may differ than PyTorch's differs from float32."""


class DisagreementError(ModelError):
    """An engine that gives other results than eager PyTorch."""


def compare(engine: Engine, network: nn.Module, channels: int, sides: tuple[int, ...]) -> Agreement:
    """Return how `engine` for the float32 `network` agrees with eager PyTorch.

    Both get the same seeded noise (1, channels, *sides), in the precision of `engine`.

    Raises:
        RuntimeError, MemoryError: if one of them cannot run the network.
        DisagreementError: if they differ by more than rounding.
    """
    noise = np.random.default_rng(0).standard_normal((1, channels, *sides), dtype=np.float32)
    expected = EagerEngine(engine.network, engine.device, engine.precision).logits(noise)
    found = engine.logits(noise)
    if found.shape != expected.shape:
        raise DisagreementError(
            f"{engine.describe()} gives {tuple(found.shape)} numbers for a window of {sides}, and "
            f"eager PyTorch {tuple(expected.shape)}; use --engine eager"
        )
    with torch.inference_mode():
        agreement = Agreement(
            window=sides,
            compared=expected.numel(),
            largest_difference=_difference(found, expected),
            labels_different=int((_labels(found) != _labels(expected)).sum()),
        )
        bound = MOST_DIFFERENCE[engine.precision]
        # Written so that NaN, which compares with nothing, is refused.
        if not agreement.largest_difference <= bound and engine.precision != "float32":
            exact = make_engine(network, engine.device, "float32").logits(noise)
            bound = max(bound, TIMES_THE_COST * _difference(expected, exact))
    if not agreement.largest_difference <= bound:
        raise DisagreementError(
            f"{engine.describe()} does not compute what eager PyTorch does in {engine.precision}: "
            f"{agreement.sentence()}; rounding explains {bound:.1g} at most; use --engine eager"
        )
    return agreement


def _difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the standard deviation of `expected`."""
    largest = (found - expected).abs().max()
    # Logits that are all alike have no deviation, and equal ones need none.
    return float(largest / expected.std()) if largest != 0 else 0.0


def _labels(logits: Tensor) -> Tensor:
    """Return the largest channel of `logits` (N, K, ...), or the sign of a single one."""
    return logits.argmax(1) if logits.shape[1] > 1 else logits[:, 0] > 0
