"""What all images of a run have in common: the model, proven, on its device, and the tile size."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch

from exactile.bit_stability import BitStability, check_bit_stability
from exactile.certificate import ProofRecord
from exactile.engine import DTYPES, Engine, choose_device, make_engine
from exactile.errors import ModelError, PlanError
from exactile.fixed_order import fixed_order
from exactile.forward import ForwardPass
from exactile.locality import confirm
from exactile.locality.poison import prove
from exactile.models.loading import load_model
from exactile.models.model import PLANES, Model
from exactile.normalization import describe
from exactile.pipeline import network_failed
from exactile.settings import SegmentSettings
from exactile.tiling import Plan, auto_tile, least_tile

logger = logging.getLogger(__name__)

MOST_ROUNDING = 1e-2
"""Larger differences, relative to the standard deviation of the output, have another cause."""


@dataclass
class Job:
    """What all images of a run have in common."""

    settings: SegmentSettings
    model: Model
    run: ForwardPass
    proof: ProofRecord
    tile: int
    """Side of the windows in pixels."""
    checked: dict[tuple[int, ...], BitStability] = field(default_factory=dict)
    """What the check found, by window and extent, so that it runs once for each."""

    def bit_stability(self, tiling: Plan, path: Path) -> BitStability:
        """Return what the check finds for windows of `tiling`; it runs once for each shape.

        Raises:
            ModelError: if the network treats an image of this size otherwise than a window.
            NetworkError: if the network cannot be run on such windows, needed for image `path`.
        """
        key = tiling.window + tiling.extent
        if key not in self.checked:
            self._confirm(tiling, path)
            try:
                found = check_bit_stability(self.run.engine, tiling, self.model.channels)
            except (RuntimeError, MemoryError) as error:
                raise network_failed(path, "the check of bit-stability", tiling, error) from error
            if found.largest_difference > MOST_ROUNDING:
                raise ModelError(
                    f"{path}: {self.model.name} gives other results in windows of another size, by "
                    f"{found.largest_difference:.1e} of their standard deviation, which is no "
                    "rounding: it looks at the size of its input, or keeps a state"
                )
            logger.log(logging.INFO if found.equal else logging.WARNING, "%s", found.sentence())
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
            confirm(model.network, model.channels, model.analysis, tiling.window, tiling.extent)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error


def make_job(settings: SegmentSettings) -> Job:
    """Load the model, choose device and tile size, and prove the locality on the weights.

    Raises:
        ModelError: if the model cannot be loaded, has no locality, or is not for planes.
        SettingsError: if the device is not there.
        PlanError: if the tile size leaves no zone.
    """
    device = choose_device(settings.device)
    model = load_model(settings.model, settings.normalization)
    if model.dimensions != PLANES:
        raise ModelError(
            f"{settings.model}: {model.name} takes volumes of {model.dimensions} axes; only "
            "planes are segmented: use a network for planes, which takes a stack plane by plane"
        )
    engine = make_engine(model.network, device, settings.precision)
    least = least_tile(model.locality)
    tile = auto_tile(model.locality) if settings.tile_size == "auto" else settings.tile_size
    if tile < least:
        halo = model.locality.halo[0]
        raise PlanError(
            f"--tileSize {tile} is too small for {model.name}: its halo is {halo.low} and "
            f"{halo.high} px on the two sides, on a grid of F = {model.locality.alignment[0]} px; "
            f"use at least {least}, or auto"
        )
    logger.info(
        "%s (%s) on %s, %s; F %s, halo %s, windows of %d px",
        model.name,
        model.file.format,
        engine.describe(),
        settings.precision,
        " x ".join(map(str, model.locality.alignment)),
        " x ".join(f"({h.low}, {h.high})" for h in model.locality.halo),
        tile,
    )
    if model.assumed:
        logger.warning(
            "%s does not say how its images are normalised: %s is assumed; --normalization says so",
            model.name,
            describe(model.before),
        )
    if model.file.after is None:
        logger.warning(
            "%s does not say what its output means: its last operator is %s, so from there to "
            "probabilities %s is assumed",
            model.name,
            model.analysis.last,
            describe(model.finishing.after),
        )
    proof = prove_locality(engine, model)
    run = ForwardPass(engine, settings.output_type, model.finishing)
    return Job(settings, model, run, proof, tile)


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
