"""Want of memory: it is recognised, and the work goes on in smaller windows of one shape."""

from __future__ import annotations

from itertools import islice
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_tiling import PUBLISHED, plans, shrinking_plans

from exactile.geometry import Box
from exactile.shortage import LEAST_SAVING, cut, is_shortage, smaller
from exactile.tiling import Plan, plan


def test_want_of_memory_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**50, dtype=torch.uint8)
    assert is_shortage(refused.value)
    assert is_shortage(MemoryError())
    assert is_shortage(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_shortage(RuntimeError("std::bad_alloc"))
    assert is_shortage(
        RuntimeError("Check 'ptr' failed at ...: Failed to allocate 23 bytes of memory")
    )
    assert is_shortage(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert not is_shortage(RuntimeError("expected 3 channels, got 1"))
    assert not is_shortage(OSError("Cannot allocate memory"))


@given(plans() | shrinking_plans())
def test_smaller_plans_have_smaller_windows_until_there_is_none(tiling: Plan) -> None:
    while (less := smaller(tiling)) is not None:
        assert prod(less.window) <= LEAST_SAVING * prod(tiling.window)
        assert less.extent == tiling.extent
        assert less.output_shape == tiling.output_shape
        assert all(a <= b for a, b in zip(less.window, tiling.window, strict=True))
        tiling = less
    # What is left could only shed halo.
    for axis in tiling.axes:
        assert axis.zone <= 3 * axis.locality.step or axis.zone < 5 * axis.locality.halo.total


@given(plans() | shrinking_plans(), st.data())
def test_zones_left_over_are_covered_once_by_pieces_that_fit_the_smaller_windows(
    tiling: Plan, data: st.DataObject
) -> None:
    zones = [tile.zone for tile in islice(tiling.tiles(), 20)]
    left = zones
    for _ in range(data.draw(st.integers(1, 3))):
        less = smaller(tiling)
        if less is None:
            break
        left, tiling = cut(left, less), less
    assert sum(piece.size for piece in left) == sum(zone.size for zone in zones)
    whole = Box.of_shape(tiling.output_shape)
    for piece in left[:300]:
        tile = tiling.tile(piece).cut_to(whole)
        assert tile.window.shape == tiling.window
        for side, window, axis in zip(piece.axes, tile.window.axes, tiling.axes, strict=True):
            locality = axis.locality
            first = side.start // locality.step * locality.alignment
            last = -(-side.stop // locality.step) * locality.alignment
            assert window.start <= first - locality.halo.low or window.start == 0
            assert window.stop >= last + locality.halo.high or window.stop == axis.extent
            assert window.start % locality.alignment == 0


def test_pieces_do_not_overlap() -> None:
    tiling = plan((5000, 4000), PUBLISHED, 2240)
    zones = [tile.zone for tile in tiling.tiles()][1:]
    seen = np.zeros(tiling.extent, np.uint8)
    less = smaller(tiling)
    assert less is not None
    for piece in cut(zones, less):
        seen[piece.slices] += 1
    assert seen.max() == 1
    for zone in zones:
        assert seen[zone.slices].all()


def test_the_published_network_shrinks_to_its_halo() -> None:
    tiling: Plan | None = plan((20_000, 20_000), PUBLISHED, 4288)
    windows = []
    while tiling is not None:
        windows.append(tiling.window)
        tiling = smaller(tiling)
    assert windows[0] == (4288, 4288)
    assert min(windows[-1]) < 192 + 3 * 16
