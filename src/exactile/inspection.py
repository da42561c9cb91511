"""What can be said of a model before it is run: its locality or its refusal, and the plan."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import torch

from exactile.choice import Choice, choose_plan
from exactile.engines.choose import choose_engine
from exactile.errors import ModelError, SettingsError
from exactile.exchangeable import objection
from exactile.finishing import label_dtype
from exactile.geometry import PLANES
from exactile.images import open_source
from exactile.images.source import DEFAULT_CACHE_BYTES
from exactile.locality import NotLocal, Refusal
from exactile.locality.effective import EffectiveField, effective_receptive_field
from exactile.locality.formulas import formula_radius_of
from exactile.locality.poison import Proof, prove
from exactile.locality.scriptsizes import looks_at_sizes
from exactile.memory.available import Available, memory_budget
from exactile.memory.buffers import Buffers
from exactile.memory.cost import PassCost, estimate_cost, measure_cost
from exactile.memory.size import parse_size_in_bytes
from exactile.models.loading import open_model
from exactile.models.model import Model, complete
from exactile.models.network_file import NetworkFile
from exactile.models.told import NOTHING, Told, parse_channel_count
from exactile.tiling import WRITER_TILE

LARGEST_SIDE = 10**9
"""More pixels a side are a mistake."""


@dataclass(frozen=True)
class Asked:
    """An image that a plan is wanted for."""

    shape: tuple[int, ...]
    """Its size in array order."""
    budget: Available
    """What a run may take."""

    def choose(self, model: Model, cost: PassCost) -> Choice:
        """Return the plan for labels.

        Raises:
            PlanError: if there is none for such an image, or none that takes so little memory.
        """
        outputs = len(model.classes)
        buffers = Buffers(
            channels=model.channels,
            outputs=outputs,
            written=1,
            itemsize=label_dtype(outputs).itemsize,
            decoded=DEFAULT_CACHE_BYTES,
            across=-(-self.shape[-1] // WRITER_TILE),
            plane=(self.shape[-2], self.shape[-1]),
        )
        return choose_plan(self.shape, model.locality, cost, self.budget.bytes, buffers)


@dataclass(frozen=True)
class Exchange:
    """Whether a network without locality runs by exchange, as one pass in parts."""

    alignment: tuple[int, ...]
    """F of each axis, in pixels; empty where it does not run."""
    objection: str
    """Why it does not run; empty where it does."""


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
    asked: Asked | None = None
    """The image that a plan was asked for."""
    choice: Choice | None = None
    """The plan for it, by what the operators need; nothing was run."""
    exchange: Exchange | None = None
    """Of a refused network: whether it runs by exchange. None for others."""

    @property
    def local(self) -> bool:
        """Whether the network can be run in exact tiles."""
        return self.model is not None

    @property
    def looks(self) -> tuple[str, ...]:
        """Code of a local network that looks at the image's size, so that runs confirm it."""
        return looks_at_sizes(self.file.network) if self.local else ()

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
            "outputs": list(self.file.outputs),
            "output": self.file.output,
        }
        if self.exchange is not None:
            facts["exchange"] = asdict(self.exchange)
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
            "output_meaning": self.model.reading.meaning,
            "output_meaning_because": self.model.reading.why,
            "operators": analysis.operators,
            "looks_at_size": list(self.looks),
        }
        if self.asked is not None and self.choice is not None:
            tiling = self.choice.tiling
            facts["plan"] = {
                "shape": tiling.shape,
                "output_shape": tiling.output_shape,
                "window": tiling.window,
                "zone": tiling.zone,
                "windows": tiling.count,
                "computed_ratio": tiling.computed_ratio,
                "budget_bytes": self.asked.budget.bytes,
                "memory_bytes": self.choice.memory_bytes,
                "predicted_seconds": self.choice.seconds,
            }
        return facts


def plain(number: Fraction) -> int | float:
    """Return `number` as JSON has it: whole where it is whole."""
    return int(number) if number.denominator == 1 else float(number)


def _exchange(file: NetworkFile, told: Told) -> Exchange:
    try:
        model = complete(file, told, exchange=True)
    except ModelError:
        return Exchange((), "where its output lies in the image cannot be told")
    said = objection(model)
    return Exchange(() if said else model.locality.alignment, said)


def inspect_model(
    path: Path,
    image: Path | tuple[int, ...] | None,
    memory: Literal["auto"] | int = "auto",
    told: Told = NOTHING,
) -> Inspection:
    """Trace the model at `path`, and plan an `image`, which a file or its sides are given for.

    Sides are pixels in array order. Of a file only its size is read, a volume's for a network that
    takes volumes. The plan may take `memory` bytes, or most of what this machine has left. `told`
    is what is said of a model whose file does not. Nothing is run, but two small parts of zeros
    through a network that is refused.

    Raises:
        ModelError: if there is no model, or it cannot be run at all.
        PlanError: if there is no plan for such an image, or none that takes so little memory.
        SettingsError: if the image has another number of axes than the network takes.
        ImageError: if the file cannot be opened.
    """
    file = open_model(path, told.output)
    parameters = sum(tensor.numel() for tensor in file.network.parameters())
    try:
        model = complete(file, told)
    except NotLocal as refused:
        exchange = _exchange(file, told)
        return Inspection(file, parameters, None, refused.refusals, (), exchange=exchange)
    try:
        formula = formula_radius_of(file.network, model.channels, model.dimensions)
    except ModelError:
        # It is a figure to compare with, which some traced networks do not let be computed.
        formula = ()
    if image is None:
        return Inspection(file, parameters, model, (), formula)
    shape = image_shape(image, model.dimensions) if isinstance(image, Path) else image
    if len(shape) != model.dimensions:
        raise SettingsError(
            f"{file.name} takes images of {model.dimensions} axes, but the size given has "
            f"{len(shape)}; give a size such as {'x'.join(['512'] * model.dimensions)}"
        )
    asked = Asked(shape, memory_budget(memory, torch.device("cpu")))
    choice = asked.choose(model, estimate_cost(model.network, model.locality, model.channels))
    return Inspection(file, parameters, model, (), formula, asked, choice)


@dataclass(frozen=True)
class Trial:
    """What running the network showed."""

    proof: Proof
    field: EffectiveField | None
    """An estimate, never a bound; None for volumes, and where `without_field` says why."""
    without_field: str
    choice: Choice | None = None
    """The plan for the image that was asked for, by what passes took of time and memory."""


def try_out(model: Model, asked: Asked | None = None) -> Trial:
    """Run the network on noise: prove its locality by poison, and estimate its receptive field.

    With an image that a plan was `asked` for, measure what passes take in float32 on the CPU, on
    the engine that a run takes there by itself, and plan again.

    Raises:
        PlanError: if there is no plan that takes as little memory as it may.
    """
    trial = _prove_and_draw(model)
    if asked is None:
        return trial
    engine = choose_engine(
        "auto", model.network, torch.device("cpu"), "float32", model.analysis, model.channels
    )
    cost = measure_cost(engine, engine.network, model.locality, model.channels, asked.budget.bytes)
    return replace(trial, choice=asked.choose(model, cost))


def _prove_and_draw(model: Model) -> Trial:
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


def image_shape(path: Path, dimensions: int) -> tuple[int, ...]:
    """Return the size (Y, X), or (Z, Y, X), of the image at `path`; no pixel is read."""
    with open_source(path) as source:
        return source.shape_of(dimensions)


def parse_memory(text: str) -> Literal["auto"] | int:
    """Return the number of bytes in `text`, such as 8GB; auto where it is blank.

    Raises:
        SettingsError: if it is not a size of memory.
    """
    if text in ("", "auto"):
        return "auto"
    try:
        return parse_size_in_bytes(text)
    except ValueError as error:
        raise SettingsError(f"--memory {text!r} {error}") from error


def parse_channels(text: str) -> int | None:
    """Return the number of channels in `text`; None where it is blank.

    Raises:
        SettingsError: if it is no such number.
    """
    if not text:
        return None
    try:
        return parse_channel_count(text)
    except ValueError as error:
        raise SettingsError(f"--channels {text!r} {error}") from error


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
