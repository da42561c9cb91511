"""What all images of a run have in common: the model, proven, on its engines, and the memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch

from exactile.bit_stability import BitStability, check_bit_stability
from exactile.certificate import ProofRecord
from exactile.devices import choose_device
from exactile.engine import DTYPES, Engine
from exactile.engines.choose import choose_engine
from exactile.engines.eager import make_engine
from exactile.errors import ModelError, PlanError, SettingsError
from exactile.exchangeable import check_strategy
from exactile.fixed_order import fixed_order
from exactile.geometry import VOLUMES
from exactile.locality import confirm
from exactile.locality.poison import prove
from exactile.memory.available import Available, memory_budget
from exactile.memory.cost import PassCost, estimate_cost, measure_cost
from exactile.memory.step import step_bytes
from exactile.models.loading import load_model
from exactile.models.model import Model, check_meaning
from exactile.normalization import describe
from exactile.settings import SegmentSettings
from exactile.statistics.folder import StatisticsFolder
from exactile.tiling import Plan, least_tile, least_window

logger = logging.getLogger(__name__)

CACHE_SHARE = 16
LEAST_CACHE_BYTES, MOST_CACHE_BYTES = 2**25, 2**29
"""Decoded chunks take a sixteenth of the memory, within these bounds: a row of windows needs 250 MB
of an image that is 20,000 pixels wide."""

NOT_PROVEN = ProofRecord({}, (), 0)
"""What is said of the locality of a network that is run by exchange, which rests on none."""

VOLUME_CACHE_SHARE, MOST_VOLUME_CACHE_BYTES = 8, 2**31
"""The same for volumes: a window reaches into the chunks of each of its planes, and those are more
than it has pixels where chunks are larger than windows."""

MOST_ROUNDING = 1e-2
"""Larger differences, relative to the standard deviation of the output, have another cause."""


@dataclass
class Job:
    """What all images of a run have in common."""

    settings: SegmentSettings
    model: Model
    proof: ProofRecord
    engines: tuple[Engine, ...]
    """The engine; where it was left to choose another than eager PyTorch, that one too, for plans
    in which the first is not bit-stable."""
    budget: Available
    """The memory that the run may take."""
    statistics: StatisticsFolder | None = None
    """Where statistics of the images are, measured before; None where each image is measured."""
    checked: dict[tuple[object, ...], BitStability] = field(default_factory=dict)
    """What the check found, by engine, window and extent, so that it runs once for each."""
    threads_checked: dict[tuple[object, ...], bool] = field(default_factory=dict)
    """Whether bits are the same with another number of threads, by engine, window and threads."""
    costs: dict[str, PassCost] = field(default_factory=dict)
    """What a pass costs, by the engine's name."""
    estimates: dict[str, PassCost] = field(default_factory=dict)
    """What it may cost at most, by the engine's name; nothing was run for it."""
    traced_steps: dict[tuple[int, ...], tuple[int, int]] = field(default_factory=dict)
    """What operators read and make, by extent; see `steps`."""
    cannot_exchange: str | None = None
    """Why the network cannot be run by exchange, empty where it can; None until it is tried."""

    @property
    def eager(self) -> Engine | None:
        """Eager PyTorch, which runs by exchange, if it is among the engines."""
        return next((engine for engine in self.engines if engine.name == "eager"), None)

    def steps(self, extent: tuple[int, ...]) -> tuple[int, int]:
        """Return bytes that the hungriest operator in a pass reads and makes, and that all do."""
        if extent not in self.traced_steps:
            self.traced_steps[extent] = step_bytes(
                self.engines[-1].network, self.model.channels, extent
            )
        return self.traced_steps[extent]

    @property
    def cache_bytes(self) -> int:
        """Return how much of the memory is for decoded chunks of the input."""
        volumes = self.model.dimensions == VOLUMES
        share, most = (
            (VOLUME_CACHE_SHARE, MOST_VOLUME_CACHE_BYTES)
            if volumes
            else (CACHE_SHARE, MOST_CACHE_BYTES)
        )
        return min(max(self.budget.bytes // share, LEAST_CACHE_BYTES), most)

    def describe_engines(self) -> str:
        """Return what may run the windows; which does follows from the image's size."""
        return ", or ".join(engine.describe() for engine in self.engines)

    def estimate(self, engine: Engine) -> PassCost:
        """Return what a pass on `engine` may cost; traced once, for there may be 10,000 images."""
        if engine.name not in self.estimates:
            self.estimates[engine.name] = estimate_cost(
                engine.network, self.model.locality, self.model.channels
            )
        return self.estimates[engine.name]

    def cost(self, engine: Engine) -> PassCost:
        """Return what a pass costs on `engine`; measured once, on the device."""
        if engine.name not in self.costs:
            self.costs[engine.name] = measure_cost(
                engine,
                engine.network,
                self.model.locality,
                self.model.channels,
                self.budget.bytes,
            )
        return self.costs[engine.name]

    def bit_stability(self, engine: Engine, tiling: Plan, path: Path) -> BitStability:
        """Return what the check finds for windows of `tiling`; it runs once for each shape.

        Raises:
            ModelError: if the network treats an image of this size otherwise than a window.
            RuntimeError, MemoryError: if the network cannot be run on such windows.
        """
        key = (engine.name, tiling.window, tiling.extent)
        if key not in self.checked:
            self._confirm(tiling, path)
            found = check_bit_stability(engine, tiling, self.model.channels)
            if found.largest_difference > MOST_ROUNDING:
                raise ModelError(
                    f"{path}: {self.model.name} gives other results in windows of another size, by "
                    f"{found.largest_difference:.1e} of their standard deviation, which is no "
                    "rounding: it looks at the size of its input, or keeps a state"
                )
            self.checked[key] = found
        return self.checked[key]

    def _confirm(self, tiling: Plan, path: Path) -> None:
        """See that the network treats an image of this size as it treats a window.

        Raises:
            ModelError: if it does not.
        """
        if tiling.count == 1:
            return
        model = self.model
        try:
            confirm(
                *(model.network, model.channels, model.analysis),
                *(tiling.window, tiling.extent, tiling.shape),
            )
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error


def make_job(settings: SegmentSettings) -> Job:
    """Load the model, choose device and engine, and prove the locality on the weights.

    Raises:
        ModelError: if the model cannot be loaded, or has no locality.
        SettingsError: if the device, the engine or the folder of statistics is not there, or if
            something is asked for that is not done with volumes.
        PlanError: if the tile size leaves no zone.
    """
    device = choose_device(settings.device)
    statistics = StatisticsFolder.given(settings.statistics) if settings.statistics else None
    model = load_model(settings.model, settings.told, exchange=True)
    if model.dimensions == VOLUMES:
        _check_volumes(settings, model)
    check_strategy(model, settings.strategy)
    check_meaning(model, settings.output_type)
    _warn_of_assumptions(model)
    eager = make_engine(model.network, device, settings.precision)
    budget = memory_budget(settings.memory, device)
    if model.refused is not None or settings.strategy == "exchange":
        if settings.engine not in ("auto", "eager"):
            raise SettingsError(
                f"--engine {settings.engine} runs windows, and this network is run by exchange, "
                "which eager PyTorch does: leave --engine out"
            )
        if settings.tile_size != "auto" or settings.verify:
            option = "--verify" if settings.verify else "--tileSize"
            raise SettingsError(
                f"{option} is for windows, and this network is run by exchange, which has none: "
                f"leave {option} out"
            )
        logger.info(
            "%s (%s) on %s, %s; by exchange, F %s%s",
            model.name,
            model.file.format,
            eager.describe(),
            settings.precision,
            " x ".join(map(str, model.locality.alignment)),
            "" if model.refused is None else f": {model.refused}",
        )
        return Job(settings, model, NOT_PROVEN, (eager,), budget, statistics)
    _check_tile(settings, model)
    proof = prove_locality(eager, model)
    engine = choose_engine(
        settings.engine, model.network, device, settings.precision, model.analysis, model.channels
    )
    logger.info(
        "%s (%s) on %s, %s; F %s, halo %s",
        model.name,
        model.file.format,
        engine.describe(),
        settings.precision,
        " x ".join(map(str, model.locality.alignment)),
        " x ".join(f"({h.low}, {h.high})" for h in model.locality.halo),
    )
    alternatives = (eager,) if settings.engine == "auto" and engine.name != "eager" else ()
    return Job(settings, model, proof, (engine, *alternatives), budget, statistics)


def _check_volumes(settings: SegmentSettings, model: Model) -> None:
    if settings.shard is not None:
        raise SettingsError(
            f"--shard {settings.shard}: the work is split into rows of single planes, and "
            f"{model.name} takes volumes: leave --shard (and JOB_COMPLETION_INDEX, RANK) out, and "
            "give each worker images of its own by --filePattern"
        )
    if settings.stitching_vector is not None:
        raise SettingsError(
            f"--stitchingVector: places planes beside each other, and {model.name} takes volumes: "
            "assemble the mosaic before, or use a network for planes"
        )


def _check_tile(settings: SegmentSettings, model: Model) -> None:
    least = least_tile(model.locality)
    if settings.tile_size != "auto" and settings.tile_size < least:
        axis = max(model.locality.axes, key=least_window)
        halo = axis.halo
        raise PlanError(
            f"--tileSize {settings.tile_size} is too small for {model.name}: its halo is "
            f"{halo.low} and {halo.high} px on the two sides, on a grid of F = "
            f"{axis.alignment} px; use at least {least}, or auto"
        )


def _warn_of_assumptions(model: Model) -> None:
    if model.assumed:
        logger.warning(
            "%s does not say how its images are normalised: %s is assumed; --normalization says so",
            model.name,
            describe(model.before),
        )
    if model.file.after:
        return
    logger.info("%s: its output is %s", model.name, model.reading.sentence())
    if model.reading.meaning == "logits" and model.file.after is None:
        logger.warning(
            "%s does not say what its output means: its last operator is %s, so from there to "
            "probabilities %s is assumed; --outputMeaning says so",
            model.name,
            model.analysis.last,
            model.finishing.describe(),
        )


def prove_locality(engine: Engine, model: Model) -> ProofRecord:
    """Prove the locality of `model` by poison, on its weights, on the device that it runs on.

    Raises:
        ModelError: if poison outside the claimed dependency of a zone reaches the zone.
    """
    try:
        with fixed_order(engine.device):
            proof = prove(
                engine.network,
                model.analysis,
                model.channels,
                device=engine.device,
                dtype=DTYPES[engine.precision],
            )
    except (RuntimeError, torch.jit.Error) as error:
        raise ModelError(
            f"{model.name}: cannot be run in {engine.precision} on {engine.describe()}: "
            f"{str(error).strip().splitlines()[-1]}"
        ) from error
    broken = [zone for zone in proof.zones if not zone.holds]
    if broken:
        raise ModelError(
            f"{model.name}: its locality does not hold on {engine.describe()}: {len(broken)} of "
            f"{len(proof.zones)} zones change with input outside the dependency that was traced, "
            f"among them one at the {broken[0].place}; the network is not run: report it as a "
            "defect of exactile, unless its output is random"
        )
    record = ProofRecord.of(proof)
    logger.info("%s", record.sentence())
    return record
