"""Which rank has which part: every pixel once, on the F grid, with little surface."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactile.distributed.arrangement import arrange
from exactile.errors import PlanError, SettingsError


@given(st.data())
def test_parts_cover_each_pixel_once_and_start_on_the_grid(data: st.DataObject) -> None:
    dimensions = data.draw(st.integers(2, 3))
    alignment = tuple(data.draw(st.integers(1, 4)) for _ in range(dimensions))
    extent = tuple(step * data.draw(st.integers(1, 6)) for step in alignment)
    ranks = data.draw(st.integers(1, 12))
    made = arrange(extent, alignment, ranks)
    assert prod(made.mesh) == ranks
    covered = np.zeros(extent, int)
    for place in np.ndindex(made.mesh):
        part = made.part(place)
        covered[part.slices] += 1
        assert all(
            start % step == 0 or start == side
            for start, step, side in zip(part.start, alignment, extent, strict=True)
        )
    assert (covered == 1).all()


@pytest.mark.parametrize(
    ("extent", "ranks", "mesh"),
    [
        ((2000, 2000), 4, (2, 2)),
        ((8000, 500), 4, (4, 1)),
        ((500, 8000), 4, (1, 4)),
        ((64, 512, 512), 8, (1, 2, 4)),
        ((512, 512, 512), 8, (2, 2, 2)),
        ((100, 100), 1, (1, 1)),
    ],
)
def test_the_mesh_has_the_least_surface_between_parts(
    extent: tuple[int, ...], ranks: int, mesh: tuple[int, ...]
) -> None:
    assert arrange(extent, (1,) * len(extent), ranks).mesh == mesh


def test_a_mesh_that_shares_the_work_goes_before_one_with_less_surface() -> None:
    # Along Y there are only three steps of F.
    assert arrange((48, 40), (16, 1), 4).mesh == (1, 4)


def test_axes_say_where_to_split() -> None:
    assert arrange((8, 64, 64), (1, 1, 1), 4, axes="Z").mesh == (4, 1, 1)
    assert arrange((8, 64, 64), (1, 1, 1), 4, mesh=(4,), axes="Y").mesh == (1, 4, 1)
    assert arrange((8, 64, 64), (1, 1, 1), 4, mesh=(2, 2)).mesh == (1, 2, 2)


@pytest.mark.parametrize(
    ("mesh", "axes", "message"),
    [
        ((3,), None, "--mesh 3 has 3 ranks, but 4 processes were started; start 3 with torchrun"),
        ((2, 2), "Y", "--mesh 2x2 has 2 sides for the 1 axes Y"),
        ((4,), "X", "splits X into 4 parts, but the padded image has 2 steps of F = 16 px"),
        (None, "Z", "--axes Z: the network takes images with the axes YX"),
        ((1, 2, 2), None, "has 3 sides for the 2 axes YX"),
    ],
)
def test_what_does_not_fit_is_said_with_what_would(
    mesh: tuple[int, ...] | None, axes: str | None, message: str
) -> None:
    with pytest.raises((PlanError, SettingsError), match=message.replace("(", r"\(")):
        arrange((160, 32), (16, 16), 4, mesh, axes)
