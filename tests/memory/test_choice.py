"""The chosen plan: it fits, nothing that fits is much faster, and it is the same every time."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactile.choice import (
    FRESH_PASSES,
    PASS_PIXELS,
    TIE,
    Choice,
    choose_plan,
    format_seconds,
    weigh,
)
from exactile.errors import PlanError
from exactile.geometry import AxisLocality, Halo, Locality
from exactile.locality.unet import unet_locality
from exactile.memory.buffers import Buffers
from exactile.memory.cost import PassCost
from exactile.tiling import WRITER_TILE, Plan, axis_plans, plan

PUBLISHED = unet_locality(depth=4, convolutions=2)
COST = PassCost(2 * 10**8, 1200.0, 0.5, 1e-6)
GB = 10**9


def no_buffers(window: tuple[int, ...], zone: tuple[int, ...]) -> int:
    return 0


def choose(shape: tuple[int, ...], budget: float, locality: Locality = PUBLISHED) -> Choice:
    return choose_plan(shape, locality, COST, int(budget), no_buffers)


def rank(choice: Choice) -> int:
    passes = choice.tiling.count * (prod(choice.tiling.window) + PASS_PIXELS)
    return passes + choice.checked_pixels + FRESH_PASSES * prod(choice.tiling.window)


shapes = st.tuples(st.integers(1, 60_000), st.integers(1, 60_000))


@given(shapes, st.integers(1, 40))
def test_the_choice_fits_and_no_stable_square_that_fits_is_faster(
    shape: tuple[int, int], gigabytes: int
) -> None:
    budget = gigabytes * GB
    chosen = choose(shape, budget)
    assert chosen.memory_bytes <= budget
    assert chosen.memory_bytes >= COST.bytes(chosen.tiling.window)
    for zone in (256, 512, 1024, 2048, 4096):
        square = weigh(plan(shape, PUBLISHED, zone + 192), COST, no_buffers)
        if (
            square.memory_bytes <= budget
            and square.stable
            and square.tiling.window[0] == zone + 192
        ):
            assert rank(chosen) <= TIE * rank(square)


@given(shapes, st.integers(1, 40))
def test_the_same_image_and_budget_have_the_same_plan_whatever_the_clock_says(
    shape: tuple[int, int], gigabytes: int
) -> None:
    slow = PassCost(COST.bytes_fixed, COST.bytes_per_pixel, 7.0, 3e-6)
    silent = PassCost(COST.bytes_fixed, COST.bytes_per_pixel)
    chosen, *others = (
        choose_plan(shape, PUBLISHED, cost, gigabytes * GB, no_buffers)
        for cost in (COST, slow, silent)
    )
    assert all(other.tiling == chosen.tiling for other in others)


@given(shapes, st.integers(1, 40))
def test_more_memory_never_makes_a_stable_plan_much_slower(
    shape: tuple[int, int], gigabytes: int
) -> None:
    less, more = choose(shape, gigabytes * GB), choose(shape, 2 * gigabytes * GB)
    assert more.stable or not less.stable
    if less.stable:
        assert rank(more) <= TIE * rank(less)


def test_an_image_that_fits_is_one_window() -> None:
    chosen = choose((1500, 2000), 8 * GB)
    assert chosen.tiling.count == 1
    assert chosen.tiling.window == (1504, 2000)


def test_a_strip_over_the_full_width_has_no_halo_left_and_right() -> None:
    chosen = choose((20_000, 3000), 8 * GB)
    assert chosen.tiling.window[1] == 3008
    assert chosen.tiling.window[0] < 20_000


def test_the_published_sizes_have_these_plans() -> None:
    windows = [
        [choose(shape, budget * GB).tiling.window for budget in (2, 8, 24)]
        for shape in ((20_000, 20_000), (50_000, 100_000))
    ]
    assert windows == [
        [(1216, 1216), (2240, 2240), (2240, 4288)],
        [(1216, 1216), (2240, 2240), (7360, 2240)],
    ]


def test_large_images_have_zones_enough_to_lose_little() -> None:
    assert choose((50_000, 50_000), 10_000 * GB).tiling.count >= 30
    assert choose((8192, 16_384), 1000 * GB).tiling.count >= 16
    assert choose((2048, 2048), 1000 * GB).tiling.count == 1


def test_a_stable_window_is_preferred_to_a_faster_one_that_is_not() -> None:
    thin = choose((512, 10**6), 2 * GB)
    assert thin.stable
    assert thin.tiling.coarsest >= 32 * 32
    assert not choose((20_000, 20_000), 0.6 * GB).stable


def test_too_little_memory_names_the_least_that_works() -> None:
    with pytest.raises(PlanError, match=r"210 MB .* 20000 x 20000 px needs (\d+) MB") as caught:
        choose((20_000, 20_000), 210e6)
    least = int(str(caught.value).split(" needs ")[1].split(" MB")[0])
    assert choose((20_000, 20_000), (least + 1) * 10**6).memory_bytes <= (least + 1) * 10**6


def test_an_image_without_output_is_refused() -> None:
    axis = AxisLocality(1, Halo(0, 40), crop=Halo(20, 20))
    with pytest.raises(PlanError, match="too small for this network"):
        choose((40, 500), 8 * GB, Locality((axis, axis)))


def test_what_is_held_beside_the_pass_counts() -> None:
    held = Buffers(
        channels=1,
        outputs=2,
        written=2,
        itemsize=4,
        decoded=10**9,
        across=20,
        plane=(20_000, 20_000),
    )
    without = choose((20_000, 20_000), 4 * GB)
    chosen = choose_plan((20_000, 20_000), PUBLISHED, COST, 4 * GB, held)
    assert prod(chosen.tiling.window) < prod(without.tiling.window)
    passes = weigh(chosen.tiling, COST, no_buffers).memory_bytes
    beside = held(chosen.tiling.window, chosen.tiling.zone)
    assert chosen.memory_bytes == passes + beside
    assert beside > 10**9


def test_windows_of_verification_count() -> None:
    tiling = plan((20_000, 20_000), PUBLISHED, 2240)
    plain, verified = (weigh(tiling, COST, no_buffers, verified=v) for v in (False, True))
    assert plain.memory_bytes == COST.bytes((2240, 2240))
    assert verified.memory_bytes == COST.bytes((2304, 2304))


def test_the_time_is_that_of_all_windows_or_is_left_out() -> None:
    chosen = choose((20_000, 20_000), 8 * GB)
    assert chosen.seconds == 100 * (0.5 + 1e-6 * 2240**2)
    assert chosen.sentence() == (
        "100 windows of 2240 x 2240 px for zones of 2048 x 2048: 1.25 computed pixels for each "
        "pixel, at most 6.2 GB, about 9 min"
    )
    silent = weigh(chosen.tiling, PassCost(0, 1.0), no_buffers)
    assert silent.seconds is None
    assert silent.sentence().endswith("at most 5 MB")
    assert [format_seconds(s) for s in (3, 99, 600, 7200)] == ["3 s", "99 s", "10 min", "2.0 h"]


@st.composite
def axis_localities(draw: st.DrawFn) -> AxisLocality:
    step = draw(st.sampled_from([1, 2, 3, 4, 8, 16, 24, 32]))
    low, high = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    return AxisLocality(step, Halo(low * step, high * step))


@given(axis_localities(), st.integers(1, 20_000))
def test_every_candidate_partitions_the_axis_and_holds_zone_and_halo(
    locality: AxisLocality, length: int
) -> None:
    for axis in axis_plans(length, locality):
        assert axis.window % locality.alignment == 0
        assert axis.zone % locality.step == 0
        tiling = Plan((length,), (axis,))
        tiles = list(tiling.tiles()) if tiling.count < 200 else []
        assert sum(tile.zone.size for tile in tiles) in (0, axis.extent)
        for tile in tiles:
            assert tile.zone in tile.window
            (zone,), (window,) = tile.zone.axes, tile.window.axes
            assert window.start <= zone.start - locality.halo.low or window.start == 0
            assert window.stop >= zone.stop + locality.halo.high or window.stop == axis.extent


@given(axis_localities(), st.integers(1, 10**7))
def test_candidates_are_few_fit_the_writers_tiles_and_none_is_twice_there(
    locality: AxisLocality, length: int
) -> None:
    plans = axis_plans(length, locality)
    zones = [axis.zone for axis in plans]
    assert len(zones) == len(set(zones)) <= 250
    for zone in zones[1:]:
        if WRITER_TILE % locality.step == 0:
            assert zone % WRITER_TILE == 0 or WRITER_TILE % zone == 0
    counts = [-(-axis.kept // axis.zone) for axis in plans if axis.zone > 2 * WRITER_TILE]
    assert len(counts) == len(set(counts))


def test_volumes_are_chosen_like_planes() -> None:
    volume = Locality((AxisLocality(2, Halo(4, 4)),) * 3)
    chosen = choose((64, 2000, 2000), 8 * GB, volume)
    assert chosen.memory_bytes <= 8 * GB
    assert chosen.tiling.window[0] == 64
