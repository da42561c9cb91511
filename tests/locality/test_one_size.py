"""A network that fits one image size is told so first, whatever else is wrong with it."""

from __future__ import annotations

import pytest
import torch
from locality_brute import single_thread  # noqa: F401
from torch import nn

from exactile.locality import NotLocal, analyze


class OneSize(nn.Module):
    """A vision transformer's patch embedding, which asks for the size that it was made for."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side, self.embed = side, nn.Conv2d(1, 2, 4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # No `assert`: pytest puts code with a state of its own in its place.
        if x.shape[2] != self.side:
            raise AssertionError(f"height {x.shape[2]} does not match {self.side}")
        return self.embed(x)


@pytest.mark.parametrize("side", [64, 224])
def test_the_size_is_named_before_what_is_refused_at_that_size(side: int) -> None:
    """At one size alone, attention over all positions looks like attention in a fixed window."""
    network = nn.Sequential(OneSize(side), nn.UpsamplingBilinear2d(scale_factor=4))
    with pytest.raises(NotLocal, match="height") as refused:
        analyze(network, 1)
    first, second = refused.value.refusals
    assert first.module == "0 (OneSize)"
    assert f"runs at extent {side} but not at {2 * side}" in first.reason
    assert second.operator == "aten.upsample_bilinear2d"


def test_the_size_alone_is_a_refusal_too() -> None:
    with pytest.raises(NotLocal, match="any size") as refused:
        analyze(OneSize(96), 1)
    assert [r.module for r in refused.value.refusals] == ["model (OneSize)"]
