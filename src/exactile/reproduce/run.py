"""Runs the experiments of a form, and keeps what they gave as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, pstdev

import torch

from exactile.engines.eager import make_engine
from exactile.geometry import AxisLocality, Box, Halo, Interval, floor_to
from exactile.locality import analyze
from exactile.report.progress import Watcher
from exactile.reproduce.experiments import HaloTable, OffsetCurve, Shortfall
from exactile.reproduce.measure import (
    Errors,
    Seconds,
    double,
    offset_errors,
    plan_with,
    reached_from_beyond,
    single,
    tiled_errors,
    timed,
)
from exactile.reproduce.networks import build, make_image
from exactile.tiling import Plan


@dataclass(frozen=True, slots=True)
class HaloRow:
    """What tiled passes with one halo gave; means are over the images."""

    halo: Halo
    zone: int
    """Side of the zones, in pixels."""
    passes: int
    """For each image."""
    computed_ratio: float
    """Pixels of all windows for each pixel of the image."""
    rmse: float
    """Mean."""
    me: float
    """Mean."""
    me_sigma: float
    """Population standard deviation of ME."""
    mer: float
    """Mean."""
    largest: float
    """Largest difference of the softmax outputs in any image."""
    different: int
    """Logits with other bits, in all images."""
    logits: int
    """Logits compared, in all images."""
    relative_runtime: float
    """Time of the tiled passes against that of the whole-image passes, in all images."""
    relative_processor_time: float
    """The same of the time that processors spent on it."""


@dataclass(frozen=True, slots=True)
class HaloResult:
    """A table, measured."""

    table: HaloTable
    locality: AxisLocality
    """As traced: F and the needed halo, rounded up to F."""
    needed: Halo
    """The same before rounding."""
    repeatable: bool
    """The whole-image pass, run again after the tiled ones, gave the same bits for every image."""
    rows: tuple[HaloRow, ...]

    @property
    def exact_row(self) -> HaloRow:
        """The row with the needed halo, rounded up to F."""
        return next(row for row in self.rows if row.halo == self.locality.halo)


@dataclass(frozen=True, slots=True)
class OffsetResult:
    """The curve, measured: one value for each offset from 0 on."""

    curve: OffsetCurve
    alignment: int
    """F, as traced."""
    errors: tuple[Errors, ...]


@dataclass(frozen=True, slots=True)
class ShortfallRow:
    """What one halo gave."""

    halo: Halo
    single: Errors
    """In float32."""
    double: Errors
    """In float64."""
    reached: int
    """Positions of a zone that depend on pixels beyond the halo."""
    zone: int
    """Positions of that zone."""


@dataclass(frozen=True, slots=True)
class ShortfallResult:
    """A network with the halo of the formula, and with the one that it needs."""

    shortfall: Shortfall
    alignment: int
    needed: Halo
    """Before rounding."""
    formula: ShortfallRow
    exact: ShortfallRow


def run_table(table: HaloTable, images: int, device: torch.device, watcher: Watcher) -> HaloResult:
    """Measure every halo of `table`, and the one that the network needs, on `images` images."""
    network = build(table.network)
    analysis = analyze(network, channels=1)
    locality = analysis.locality.axes[0]
    halos = {Halo(halo, halo) for halo in table.halos} | {locality.halo}
    plans = {
        halo: plan_with(table.shape, table.tile, locality.alignment, halo)
        for halo in sorted(halos, key=lambda halo: halo.total)
    }
    forward = single(make_engine(network, device, "float32"))
    errors: dict[Halo, list[Errors]] = {halo: [] for halo in plans}
    seconds = dict.fromkeys(plans, Seconds())
    whole_seconds, repeatable = Seconds(), True
    pixels = Box.of_shape(table.shape).size
    watcher.begin(
        table.title, images * (2 * pixels + sum(computed_pixels(plan) for plan in plans.values()))
    )
    for seed in range(images):
        image = make_image(table.image, table.shape, seed)
        # Not timed: memory is asked for and kernels are prepared.
        forward(image[:, : table.tile, : table.tile].copy())
        whole, before = timed(forward, image)
        watcher.advance(pixels)
        for halo, plan in plans.items():
            found, took = tiled_errors(forward, image, whole, plan, watcher)
            errors[halo].append(found)
            seconds[halo] += took
        again, after = timed(forward, image)
        watcher.advance(pixels)
        repeatable &= torch.equal(again, whole)
        whole_seconds += before + after
    return HaloResult(
        table,
        locality,
        analysis.needed[0],
        repeatable,
        tuple(
            _row(halo, plan, errors[halo], seconds[halo], whole_seconds)
            for halo, plan in plans.items()
        ),
    )


def computed_pixels(plan: Plan) -> int:
    """Return the pixels of all windows of `plan`."""
    return plan.count * Box.of_shape(plan.window).size


def _row(halo: Halo, plan: Plan, errors: list[Errors], tiled: Seconds, twice: Seconds) -> HaloRow:
    """Return the row; `twice` is the time of two whole-image passes over each image."""
    return HaloRow(
        halo=halo,
        zone=plan.zone[-1],
        passes=plan.count,
        computed_ratio=plan.computed_ratio,
        rmse=fmean(e.rmse for e in errors),
        me=fmean(e.misclassified for e in errors),
        me_sigma=pstdev(e.misclassified for e in errors),
        mer=fmean(e.mer for e in errors),
        largest=max(e.largest for e in errors),
        different=sum(e.different for e in errors),
        logits=sum(e.values for e in errors),
        relative_runtime=2 * tiled.wall / twice.wall,
        relative_processor_time=2 * tiled.processor / twice.processor,
    )


def run_offsets(curve: OffsetCurve, device: torch.device, watcher: Watcher) -> OffsetResult:
    """Measure the passes over parts of one image that start at different offsets."""
    network = build(curve.network)
    forward = single(make_engine(network, device, "float32"))
    whole = curve.side + curve.largest
    image = make_image("slide", (whole, whole), seed=0)
    offsets = range(curve.largest + 1)
    watcher.begin(curve.title, len(offsets) * curve.side**2)
    errors = []
    for found in offset_errors(forward, image, curve.side, offsets, curve.inset):
        errors.append(found)
        watcher.advance(curve.side**2)
    alignment = analyze(network, channels=1).locality.axes[0].alignment
    return OffsetResult(curve, alignment, tuple(errors))


def run_shortfall(shortfall: Shortfall, device: torch.device, watcher: Watcher) -> ShortfallResult:
    """Measure a network with the halo of the formula and with the one that it needs."""
    network = build(shortfall.network)
    analysis = analyze(network, channels=1)
    locality = analysis.locality.axes[0]
    alignment, radius = locality.alignment, shortfall.network.formula
    formula = Halo(radius, radius).round_up(alignment)
    image = make_image("noise", shortfall.shape, seed=0)
    engine = make_engine(network, device, "float32")
    precisions = (single(engine), double(engine))
    wholes = [forward(image) for forward in precisions]
    plans = {
        halo: plan_with(shortfall.shape, shortfall.tile, alignment, halo)
        for halo in (formula, locality.halo)
    }
    watcher.begin(
        f"Formula against need: {shortfall.network.title}",
        len(precisions) * sum(computed_pixels(plan) for plan in plans.values()),
    )
    rows = []
    for halo, plan in plans.items():
        found = [
            tiled_errors(forward, image, whole, plan, watcher)[0]
            for forward, whole in zip(precisions, wholes, strict=True)
        ]
        zone = _middle_zone(plan, alignment)
        reached = reached_from_beyond(precisions[1], image, zone, (halo, halo))
        rows.append(ShortfallRow(halo, found[0], found[1], reached, zone.size))
    return ShortfallResult(shortfall, alignment, analysis.needed[0], rows[0], rows[1])


def _middle_zone(plan: Plan, alignment: int) -> Box:
    """Return a zone as long as those of `plan`, in the middle of the image."""
    axes = []
    for side, length in zip(plan.shape, plan.zone, strict=True):
        start = floor_to((side - length) // 2, alignment)
        axes.append(Interval(start, start + length))
    return Box(tuple(axes))
