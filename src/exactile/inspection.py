"""What can be said of a model before it is run: its locality or its refusal, and the plan."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from exactile.errors import ModelError, SettingsError
from exactile.images import open_source
from exactile.locality import NotLocal, Refusal
from exactile.locality.effective import EffectiveField, effective_receptive_field
from exactile.locality.formulas import formula_radius_of
from exactile.locality.poison import Proof, prove
from exactile.models.loading import open_model
from exactile.models.model import PLANES, Model, complete
from exactile.models.network_file import NetworkFile
from exactile.tiling import Plan, auto_tile, plan

LARGEST_SIDE = 10**9
"""More pixels a side are a mistake."""


@dataclass(frozen=True)
class Inspection:
    """A model, and either its locality or why it has none."""

    file: NetworkFile
    parameters: int
    model: Model | None
    """None where the network is refused."""
    refusals: tuple[Refusal, ...]
    """Empty where the network is local."""
    formula: tuple[int, ...]
    """The papers' radius by axis, in pixels; empty where it cannot be computed."""
    tiling: Plan | None
    """The plan for the image that was asked for."""

    @property
    def local(self) -> bool:
        """Whether the network can be run in exact tiles."""
        return self.model is not None

    def as_json(self) -> dict[str, Any]:
        """Return the facts for programs; spatial axes are in array order."""
        facts: dict[str, Any] = {
            "local": self.local,
            "alignment": [],
            "halo": [],
            "scale": [],
            "refused_by": [
                {"operator": r.operator, "module": r.module, "reason": r.reason}
                for r in self.refusals
            ],
            "name": self.file.name,
            "format": self.file.format,
            "parameters": self.parameters,
            "declared_halo": self.file.declared_halo,
        }
        if self.model is None:
            return facts
        axes, analysis = self.model.locality.axes, self.model.analysis
        facts |= {
            "alignment": [axis.alignment for axis in axes],
            "halo": [[axis.halo.low, axis.halo.high] for axis in axes],
            "scale": [plain(axis.scale) for axis in axes],
            "crop": [[axis.crop.low, axis.crop.high] for axis in axes],
            "needed": [[halo.low, halo.high] for halo in analysis.needed],
            "formula": list(self.formula),
            "channels": self.model.channels,
            "classes": list(self.model.classes),
            "operators": analysis.operators,
        }
        if self.tiling is not None:
            facts["plan"] = {
                "shape": self.tiling.shape,
                "output_shape": self.tiling.output_shape,
                "window": self.tiling.window,
                "zone": self.tiling.zone,
                "windows": self.tiling.count,
                "computed_ratio": self.tiling.computed_ratio,
            }
        return facts


def plain(number: Fraction) -> int | float:
    """Return `number` as JSON has it: whole where it is whole."""
    return int(number) if number.denominator == 1 else float(number)


def inspect_model(path: Path, shape: tuple[int, ...] | None) -> Inspection:
    """Trace the model at `path`, and plan an image of `shape` pixels, in array order, if given.

    Raises:
        ModelError: if there is no model, or it cannot be run at all.
        PlanError: if there is no plan for such an image.
    """
    file = open_model(path)
    parameters = sum(tensor.numel() for tensor in file.network.parameters())
    try:
        model = complete(file)
    except NotLocal as refused:
        return Inspection(file, parameters, None, refused.refusals, (), None)
    try:
        formula = formula_radius_of(file.network, model.channels, model.dimensions)
    except ModelError:
        # It is a figure to compare with, which some traced networks do not let be computed.
        formula = ()
    tiling = None
    if shape is not None:
        if len(shape) != model.dimensions:
            raise SettingsError(
                f"{file.name} takes images of {model.dimensions} axes, but the size given has "
                f"{len(shape)}; give a size such as {'x'.join(['512'] * model.dimensions)}"
            )
        tiling = plan(shape, model.locality, auto_tile(model.locality))
    return Inspection(file, parameters, model, (), formula, tiling)


@dataclass(frozen=True)
class Trial:
    """What running the network showed."""

    proof: Proof
    field: EffectiveField | None
    """An estimate, never a bound; None for volumes, and where `without_field` says why."""
    without_field: str


def try_out(model: Model) -> Trial:
    """Run the network on noise: prove its locality by poison, and estimate its receptive field."""
    proof = prove(model.network, model.analysis, model.channels)
    if model.dimensions != PLANES:
        return Trial(proof, None, "")
    try:
        field = effective_receptive_field(
            model.network, model.channels, model.analysis, finishing=model.finishing
        )
    except ModelError as error:
        return Trial(proof, None, str(error))
    return Trial(proof, field, "")


def image_shape(path: Path) -> tuple[int, ...]:
    """Return the size (Y, X) of the image at `path`; no pixel is read."""
    with open_source(path) as source:
        return source.shape


def parse_size(text: str) -> tuple[int, ...]:
    """Return the size in `text`, such as 20000x30000 (height x width).

    Raises:
        SettingsError: if it is not a size.
    """
    if not re.fullmatch(r"\d+(x\d+){1,2}", text):
        raise SettingsError(
            f"--size {text}: is not a size; use height x width in pixels, such as 20000x30000"
        )
    shape = tuple(int(side) for side in text.split("x"))
    if not all(1 <= side <= LARGEST_SIDE for side in shape):
        raise SettingsError(f"--size {text}: sides must be from 1 to {LARGEST_SIDE} pixels")
    return shape
