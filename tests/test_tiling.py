"""The plan: zones partition, windows hold them, everything is on the grid and of one shape."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactile.errors import PlanError
from exactile.geometry import AxisLocality, Halo, Interval, Locality, ceil_to
from exactile.locality.unet import unet_locality
from exactile.tiling import WRITER_TILE, Plan, axis_plans, least_tile, plan

PUBLISHED = unet_locality(depth=4, convolutions=2)
SCALES = (Fraction(1), Fraction(2), Fraction(1, 2), Fraction(1, 4), Fraction(3, 2))


@st.composite
def axis_localities(draw: st.DrawFn) -> AxisLocality:
    step = draw(st.sampled_from([1, 2, 3, 4, 8, 16, 24, 32]))
    low, high = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    return AxisLocality(step, Halo(low * step, high * step))


@st.composite
def plans(draw: st.DrawFn, dimensions: int = 2) -> Plan:
    locality = Locality(tuple(draw(axis_localities()) for _ in range(dimensions)))
    tile = least_tile(locality) + draw(st.integers(0, 1500))
    zone = plan((10**6,) * dimensions, locality, tile).zone
    most = 12 if dimensions == 2 else 3
    shape = tuple(draw(st.integers(1, most * side)) for side in zone)
    return plan(shape, locality, tile)


def zones_of(tiling: Plan, axis: int) -> list[Interval]:
    return [zone for block in tiling.axes[axis].blocks() for zone in block]


@given(plans())
def test_zones_partition_the_padded_extent(tiling: Plan) -> None:
    for axis, extent in enumerate(tiling.extent):
        zones = zones_of(tiling, axis)
        assert zones[0].start == 0
        assert zones[-1].stop == extent
        assert all(a.stop == b.start for a, b in pairwise(zones))
        assert extent - tiling.shape[axis] < tiling.axes[axis].locality.alignment


@given(plans())
def test_each_window_holds_its_zone_and_halo_or_ends_at_the_extents_edge(tiling: Plan) -> None:
    for tile in tiling.tiles():
        assert tile.zone in tile.window
        for zone, window, axis in zip(tile.zone.axes, tile.window.axes, tiling.axes, strict=True):
            assert window.start <= zone.start - axis.locality.halo.low or window.start == 0
            assert window.stop >= zone.stop + axis.locality.halo.high or window.stop == axis.extent


@given(plans())
def test_windows_have_one_shape_lie_inside_the_extent_and_on_the_grid(tiling: Plan) -> None:
    for tile in tiling.tiles():
        assert tile.window.shape == tiling.window
        for zone, window, axis in zip(tile.zone.axes, tile.window.axes, tiling.axes, strict=True):
            assert window in Interval(0, axis.extent)
            assert window.start % axis.locality.alignment == 0
            assert window.length % axis.locality.alignment == 0
            assert zone.start % axis.locality.alignment == 0


@given(plans())
def test_every_pair_of_zones_is_run_once_and_counted(tiling: Plan) -> None:
    expected = set(product(*(zones_of(tiling, axis) for axis in range(2))))
    made = [tile.zone.axes for tile in tiling.tiles()]
    assert len(made) == len(expected) == tiling.count
    assert set(made) == expected


@given(plans())
def test_zones_take_nearly_all_the_room_of_their_windows_and_fit_the_writer_if_so(
    tiling: Plan,
) -> None:
    for axis in tiling.axes:
        if axis.zone == axis.extent or axis.window == axis.extent:
            continue
        locality = axis.locality
        room = (axis.window - locality.halo.total) // locality.alignment * locality.step
        assert 0.875 * room <= axis.zone <= room
        fits = WRITER_TILE % axis.zone == 0 or axis.zone % WRITER_TILE == 0
        assert fits or axis.zone == room


@given(plans(dimensions=3))
def test_volumes_are_planned_like_planes(tiling: Plan) -> None:
    first = next(iter(tiling.tiles()))
    assert first.zone in first.window
    assert len(first.window.shape) == 3


@st.composite
def shrinking_plans(draw: st.DrawFn) -> Plan:
    """Plans for networks that crop by valid convolutions, or scale, or both."""
    step = draw(st.sampled_from([1, 2, 4, 8]))
    scale = draw(st.sampled_from([s for s in SCALES if (step * s).denominator == 1]))
    unit = step * scale.denominator
    crop = Halo(*(draw(st.integers(0, 3)) * unit for _ in range(2)))
    low = draw(st.integers(0, 4)) * step
    high = draw(st.integers(0, 4)) * step + ceil_to(crop.total, step)
    axis = AxisLocality(step, Halo(low, high), scale, crop)
    locality = Locality((axis, axis))
    tile = least_tile(locality) + draw(st.integers(0, 300))
    sides = st.integers(crop.total + step, 2000)
    return plan((draw(sides), draw(sides)), locality, tile)


@given(shrinking_plans())
def test_zones_of_smaller_and_scaled_outputs_lie_in_the_output_of_their_windows(
    tiling: Plan,
) -> None:
    for axis in tiling.axes:
        locality, zones = axis.locality, axis.zones()
        assert zones[0].start == 0
        assert zones[-1].stop >= axis.kept > zones[-1].start
        assert all(a.stop == b.start for a, b in pairwise(zones))
        for zone in zones:
            window = axis.window_of(zone)
            first = zone.start // locality.step * locality.alignment
            last = ceil_to(zone.stop, locality.step) // locality.step * locality.alignment
            assert window.start <= first - locality.halo.low or window.start == 0
            assert window.stop >= last + locality.halo.high or window.stop == axis.extent
            origin = axis.origin_of(window)
            given = Interval(origin, origin + locality.output_length(window.length))
            assert zone in given


def test_a_writer_tile_is_finished_before_the_next_is_begun() -> None:
    tiling = plan((3000, 3000), PUBLISHED, 448)
    assert tiling.zone == (256, 256)
    blocks = [tuple(s // WRITER_TILE for s in tile.zone.start) for tile in tiling.tiles()]
    assert blocks == sorted(blocks)


@pytest.mark.parametrize(
    ("tile", "zone"),
    [
        *[(208, 16), (448, 256), (512, 320), (640, 448), (704, 512)],
        *[(1216, 1024), (1231, 1024), (2048, 1856), (2239, 2032), (2240, 2048)],
    ],
)
def test_the_published_unet_has_these_zones(tile: int, zone: int) -> None:
    assert plan((8192, 8192), PUBLISHED, tile).zone == (zone, zone)


def test_where_no_window_is_smaller_its_zone_is_the_longest_it_has_room_for() -> None:
    axis = AxisLocality(16, Halo(96, 96), least=640)
    zones = {each.window: each.zone for each in axis_plans(10_000, axis)}
    assert zones[640] == 448
    assert min(zones) == 640


def test_an_image_smaller_than_a_window_is_one_window_of_its_padded_size() -> None:
    tiling = plan((100, 7), PUBLISHED, 512)
    assert (tiling.window, tiling.count) == ((112, 16), 1)


def test_one_pixel_wide_and_200000_px_wide_images_are_planned() -> None:
    thin = plan((200_000, 1), PUBLISHED, 1216)
    assert thin.extent == (200_000, 16)
    assert thin.window == (1216 * 1216 // 16, 16)
    assert thin.zone == (90 * 1024, 16)
    wide = plan((60_000, 200_000), PUBLISHED, 1216)
    assert wide.count == 59 * 196
    assert next(iter(wide.tiles())).window.shape == (1216, 1216)


def test_windows_of_thin_images_are_longer_and_have_as_many_pixels() -> None:
    tiling = plan((500, 9000), PUBLISHED, 1216)
    assert tiling.window == (512, 1216 * 1216 // 512 // 16 * 16)
    volume = plan((20, 5000, 5000), Locality((AxisLocality(1, Halo(0, 0)),) * 3), 100)
    assert volume.window == (20, 223, 223)


@given(plans(), st.integers(1, 3))
def test_windows_never_have_more_pixels_than_the_tile(tiling: Plan, factor: int) -> None:
    locality = Locality(tuple(axis.locality for axis in tiling.axes))
    tile = factor * least_tile(locality)
    try:
        made = plan(tiling.shape, locality, tile)
    except PlanError as error:
        pytest.fail(f"{error}")
    assert made.count == 1 or np.prod(made.window) <= tile**2


def test_a_tile_without_room_for_a_zone_names_the_least_that_works() -> None:
    with pytest.raises(PlanError, match=r"tile 207 is too small .* at least 208"):
        plan((4096, 4096), PUBLISHED, 207)
    assert plan((4096, 4096), PUBLISHED, 208).zone == (16, 16)


def test_the_plan_of_a_huge_image_is_lazy() -> None:
    tiling = plan((10**7, 10**7), PUBLISHED, 1216)
    assert tiling.count > 90_000_000
    assert next(iter(tiling.tiles())).zone.start == (0, 0)


def test_the_ratio_counts_all_windows() -> None:
    tiling = plan((4096, 4096), PUBLISHED, 1216)
    assert tiling.computed_ratio == pytest.approx(16 * 1216**2 / 4096**2)
