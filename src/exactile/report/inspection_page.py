"""A model's inspection as a page in the terminal, as JSON, and as files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from exactile.choice import Choice
from exactile.errors import OutputError
from exactile.geometry import AXES
from exactile.images.links import fresh
from exactile.inspection import Inspection, Trial, plain
from exactile.locality.poison import Proof
from exactile.models.model import Model
from exactile.normalization import describe
from exactile.outputs import make_folder
from exactile.report.field_picture import draw_field

OPERATORS_SHOWN = 12
CONTRIBUTIONS_SHOWN = 5
LOOKS_SHOWN = 3


def print_inspection(console: Console, inspection: Inspection, trial: Trial | None) -> None:
    """Write the page; `trial` is what running the network showed."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _rows(inspection, trial):
        table.add_row(name, text)
    console.print(table, highlight=False, markup=False)


def as_text(inspection: Inspection) -> str:
    """Return the facts as JSON."""
    return json.dumps(inspection.as_json(), indent=2)


def write_inspection(folder: Path, inspection: Inspection, trial: Trial | None) -> None:
    """Write inspection.json into `folder`, and a picture of the effective receptive field.

    Raises:
        OutputError: if the folder cannot be made or written.
    """
    make_folder(folder)
    try:
        text = as_text(inspection) + "\n"
        fresh(folder / "inspection.json").write_text(text, encoding="utf-8")
        if trial is not None and trial.field is not None:
            path = fresh(folder / "effective_receptive_field.png")
            draw_field(trial.field, path, inspection.formula)
    except OSError as error:
        raise OutputError(f"--outDir {folder}: cannot be written ({error.strerror})") from error


def _rows(inspection: Inspection, trial: Trial | None) -> Iterator[tuple[str, str]]:
    file = inspection.file
    yield "model", " ".join(filter(None, (file.name, file.version, f"({file.format})")))
    yield "parameters", f"{inspection.parameters:,}"
    model = inspection.model
    if model is None:
        yield "locality", "none: this network cannot be run in exact tiles"
        for refusal in inspection.refusals:
            yield "refused by", str(refusal)
        if (exchange := inspection.exchange) is not None:
            grid = " x ".join(map(str, exchange.alignment))
            runs = f"exactile segment and exactile partition run it; F = {grid} px"
            no = f"cannot be run like this, either: {exchange.objection}"
            yield "by exchange", no if exchange.objection else runs
        return
    yield (
        "input",
        f"{_channels(model.channels)}; {describe(model.before)}"
        + (", assumed: the file does not say" if model.assumed else ""),
    )
    if file.outputs:
        yield "outputs", f"{', '.join(file.outputs)}; this is {file.output}"
    yield "output", f"{_channels(len(model.classes))}: {', '.join(model.classes)}"
    yield "meaning", model.reading.sentence()
    yield from _locality_rows(inspection, model)
    yield from _look_rows(inspection.looks)
    if trial is not None:
        yield from _trial_rows(trial, model)
    choice = inspection.choice if trial is None or trial.choice is None else trial.choice
    if inspection.asked is not None and choice is not None:
        yield "memory", inspection.asked.budget.sentence()
        yield "plan", _plan(choice)


def _locality_rows(inspection: Inspection, model: Model) -> Iterator[tuple[str, str]]:
    analysis, axes = model.analysis, model.locality.axes
    names = AXES[-model.dimensions :]
    for name, axis, needed in zip(names, axes, analysis.needed, strict=True):
        text = (
            f"F = {axis.alignment} px, halo {axis.halo.low} px low and {axis.halo.high} px high "
            f"({needed.low} and {needed.high} needed)"
        )
        if axis.scale != 1:
            text += f"; {plain(axis.scale)} output positions for each pixel"
        if axis.crop.total:
            text += f"; {axis.crop.low} and {axis.crop.high} px at the edges without output"
        yield f"locality {name}", text
    for operator, module, growth in analysis.contributions[:CONTRIBUTIONS_SHOWN]:
        yield "  because", f"{operator} in {module} reaches {growth:.0f} px further"
    needed_most = [max(needed.low, needed.high) for needed in analysis.needed]
    if inspection.formula:
        short = any(f < n for f, n in zip(inspection.formula, needed_most, strict=True))
        yield (
            "formula",
            (
                f"{_by_axis(inspection.formula)} px (Majurski and Bajcsy 2021, eq. 2): "
                + ("TOO SMALL for this network" if short else "enough for this network")
                + f", whose operators reach {_by_axis(needed_most)} px"
            ),
        )
    declared = inspection.file.declared_halo
    if declared is not None:
        enough = all(d >= n for d, n in zip(declared, needed_most, strict=True))
        yield (
            "declared halo",
            f"{_by_axis(declared)} px: " + ("enough" if enough else "TOO SMALL; it is not used"),
        )
    operators = [f"{name} x {count}" for name, count in analysis.operators.items()]
    more = len(operators) - OPERATORS_SHOWN
    yield (
        "operators",
        ", ".join(operators[:OPERATORS_SHOWN]) + (f" and {more} more" if more > 0 else ""),
    )


def _look_rows(looks: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for line in looks[:LOOKS_SHOWN]:
        yield "looks at size", f"{line}: confirmed only at the sizes of a run, or refused there"
    if len(looks) > LOOKS_SHOWN:
        yield "", f"and {len(looks) - LOOKS_SHOWN} more places"


def _trial_rows(trial: Trial, model: Model) -> Iterator[tuple[str, str]]:
    yield "proof", _proof(trial.proof)
    if trial.field is not None:
        yield "ERF", str(trial.field)
    elif trial.without_field:
        yield "ERF", trial.without_field
    yield "least window", f"{max(axis.least for axis in model.locality.axes)} px"


def _proof(proof: Proof) -> str:
    sides = [side for axis in proof.minimal for side in axis if side is not None]
    return (
        f"{'holds' if proof.holds else 'FAILS'} on the weights: {len(proof.zones)} zones with "
        f"poison outside their dependency, inside, at edges and in corners ({proof.passes} passes, "
        f"{proof.seconds:.1f} s); one F less is too little on {sum(sides)} of {len(sides)} sides"
    )


def _plan(choice: Choice) -> str:
    tiling = choice.tiling
    return f"{_size(tiling.shape)} px: {choice.sentence()}; output {_size(tiling.output_shape)}" + (
        "" if choice.stable else "; the last bits may depend on the size of so small a window"
    )


def _channels(count: int) -> str:
    return f"{count} channel{'s' * (count > 1)}"


def _size(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))


def _by_axis(sides: Sequence[int]) -> str:
    """Return one number where all axes are alike, else one for each."""
    return " x ".join(map(str, sides if len(set(sides)) > 1 else sides[:1]))
