"""The report: tables side by side with the published ones, pictures, and what they show."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from exactile import __version__
from exactile.reproduce.experiments import Form
from exactile.reproduce.findings import (
    counted,
    departures,
    in_short,
    of_offsets,
    of_shortfalls,
    of_table,
)
from exactile.reproduce.run import HaloResult, OffsetResult, ShortfallResult
from exactile.reproduce.tables import (
    halo_markdown,
    offset_markdown,
    shortfall_markdown,
)

INTRODUCTION = """\
The tables of Majurski and Bajcsy (JRES 2021, doi 10.6028/jres.126.009; and the arXiv paper
Error-Free Semantic Segmentation Inference of Images Larger than GPU Memory), and figure 7 of the
latter, measured again with PyTorch. Tiled passes with a given halo are compared with one pass over
the whole image: RMSE over the softmax output, ME the misclassified pixels, MER = ME / pixels, means
over the images. 0.0 is written only for exactly 0: no value of any image differs in any bit."""


def report(
    form: Form,
    device: str,
    tables: Sequence[HaloResult],
    offsets: OffsetResult,
    shortfalls: Sequence[ShortfallResult],
) -> str:
    """Return the report in Markdown; pictures and CSV files lie beside it."""
    parts = [
        "# The papers' experiments, reproduced",
        INTRODUCTION,
        f"exactile {__version__}, torch {torch.__version__}, {device}.",
        "At the halo that each network needs, in float32:",
        _bullets([in_short(result) for result in tables]),
        "## Departures from the published protocol",
        _bullets(departures(form)),
    ]
    for result in tables:
        name = result.table.name
        parts += [
            f"## {result.table.title}",
            f"{_capital(result.table.network.title)}; "
            f"{counted(form.images, f'{result.table.image} image')} of {result.table.shape[1]} x "
            f"{result.table.shape[0]} px.",
            _bullets(of_table(result)),
            halo_markdown(result),
            f"![Errors against the halo]({name}.png)",
            f"Data: [{name}.csv]({name}.csv).",
        ]
    name = offsets.curve.name
    parts += [
        f"## {offsets.curve.title}",
        f"{_capital(offsets.curve.network.title)}; parts of {offsets.curve.side} x "
        f"{offsets.curve.side} px of one slide that start so many pixels further on both axes, "
        f"against the part at 0, compared where both overlap less {offsets.curve.inset} px on all "
        "sides. A tile that does not start on a multiple of F is another computation.",
        _bullets(of_offsets(offsets)),
        f"![RMSE against the offset]({name}.png)",
        offset_markdown(offsets),
        f"Data: [{name}.csv]({name}.csv).",
        "## Where the formula is too small",
        "The formula sums the convolutions of the longest path; pooling and up-sampling add pixels "
        "that it does not count. For the published U-Net rounding up to F hides that; for these "
        "networks it does not. To see what a zone depends on, all pixels beyond its halo are made "
        "NaN, and the positions that become NaN are counted (float64): that shows a dependence "
        "even where it is too weak for the softmax. Noise images, untrained networks, batch "
        "statistics from noise.",
        shortfall_markdown(shortfalls),
        _bullets(of_shortfalls(shortfalls)),
        "Data: [formula_too_small.csv](formula_too_small.csv).",
    ]
    return "\n\n".join(parts) + "\n"


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
