"""The tables, ours beside the published ones, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from exactile.geometry import Halo
from exactile.reproduce.published import PublishedRow, PublishedTable, published_table
from exactile.reproduce.run import HaloResult, HaloRow, OffsetResult, ShortfallResult

OUR_COLUMNS = (
    "halo_low",
    "halo_high",
    "zone",
    "passes",
    "computed_ratio",
    "rmse",
    "me",
    "me_sigma",
    "mer",
    "relative_runtime",
    "relative_processor_time",
    "largest_difference",
    "logits_different",
    "logits",
)

PUBLISHED_COLUMNS = ("rmse", "me", "mer", "relative_runtime")


def scientific(value: float) -> str:
    """Return `value` as the papers print it; only exactly 0 is 0.0.

    >>> scientific(0.000583), scientific(0.0)
    ('5.83e-4', '0.0')
    """
    if value == 0:
        return "0.0"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def halo_text(halo: Halo) -> str:
    """Return one number where both sides are alike, else both."""
    return str(halo.low) if halo.low == halo.high else f"{halo.low} / {halo.high}"


def published_rows(result: HaloResult, row: HaloRow) -> list[PublishedRow | None]:
    """Return the row of each published table with the same halo on both sides."""
    alike = row.halo.low == row.halo.high
    tables = map(published_table, result.table.published)
    return [table.row(row.halo.low) if alike else None for table in tables]


def halo_csv(result: HaloResult) -> str:
    """Return a line for each halo: our columns, then those of each published table."""
    papers = [published_table(name).paper.lower() for name in result.table.published]
    header = [*OUR_COLUMNS, *(f"{paper}_{name}" for paper in papers for name in PUBLISHED_COLUMNS)]
    lines = []
    for row in result.rows:
        ours: list[object] = [row.halo.low, row.halo.high, row.zone, row.passes]
        ours += [round(row.computed_ratio, 3), row.rmse, row.me, row.me_sigma]
        ours += [row.mer, round(row.relative_runtime, 3), round(row.relative_processor_time, 3)]
        ours += [row.largest, row.different, row.logits]
        for theirs in published_rows(result, row):
            ours += [getattr(theirs, name, None) for name in PUBLISHED_COLUMNS]
        lines.append(ours)
    return _csv(header, lines)


def offset_csv(result: OffsetResult) -> str:
    """Return a line for each offset."""
    header = ("offset", "rmse", "me", "mer", "logits_different", "logits")
    lines = [
        (offset, e.rmse, e.misclassified, e.mer, e.different, e.values)
        for offset, e in enumerate(result.errors)
    ]
    return _csv(header, lines)


def shortfall_csv(results: Sequence[ShortfallResult]) -> str:
    """Return two lines for each network: with the halo of the formula, and with the needed one."""
    header = ["network", "F", "formula", "needed_low", "needed_high", "halo_low", "halo_high"]
    header += ["zone_pixels", "zone_pixels_reached"]
    header += [f"{name}_{p}" for p in ("float32", "float64") for name in ("rmse", "largest")]
    lines = []
    for result in results:
        network = result.shortfall.network
        for row in (result.formula, result.exact):
            line: list[object] = [network.title, result.alignment, network.formula]
            line += [result.needed.low, result.needed.high, row.halo.low, row.halo.high]
            line += [row.zone, row.reached]
            for errors in (row.single, row.double):
                line += [errors.rmse, errors.largest]
            lines.append(line)
    return _csv(header, lines)


def _csv(header: Iterable[str], lines: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue()


def halo_markdown(result: HaloResult) -> str:
    """Return the table with the published figures in columns beside ours."""
    tables = [published_table(name) for name in result.table.published]
    header = ["halo", "zone", *_beside("RMSE", tables), *_beside("MER", tables), "ME"]
    timed = [table for table in tables if table.rows[0].relative_runtime is not None]
    header += [
        "computed pixels",
        *_beside("relative runtime", timed),
        "relative processor time",
        "largest difference",
        "logits that differ",
    ]
    lines = []
    for row in result.rows:
        theirs = published_rows(result, row)
        line = [halo_text(row.halo), str(row.zone), f"**{scientific(row.rmse)}**"]
        line += [scientific(t.rmse) if t else "" for t in theirs]
        line += [f"**{scientific(row.mer)}**"]
        line += [scientific(t.mer) if t else "" for t in theirs]
        line += [f"{row.me:g}", f"{row.computed_ratio:.2f}", f"**{row.relative_runtime:.2f}**"]
        line += [
            f"{t.relative_runtime:.2f}" if t and t.relative_runtime is not None else ""
            for t, table in zip(theirs, tables, strict=True)
            if table in timed
        ]
        line += [f"{row.relative_processor_time:.2f}", scientific(row.largest)]
        line += [f"{row.different:,} of {row.logits:,}"]
        lines.append(line)
    return markdown(header, lines)


def _beside(figure: str, tables: Iterable[PublishedTable]) -> list[str]:
    return [f"{figure}, ours", *(f"{figure}, {table.paper}" for table in tables)]


def shortfall_markdown(results: Sequence[ShortfallResult]) -> str:
    """Return two lines for each network: with the halo of the formula, and with the needed one."""
    header = ["network", "F", "halo", "zone pixels that depend on more", "RMSE, float64"]
    header += ["largest difference, float64", "RMSE, float32", "largest difference, float32"]
    lines = []
    for result in results:
        network, needed = result.shortfall.network, halo_text(result.needed)
        words = (f"formula: {network.formula}", f"needed: {needed}")
        for word, row in zip(words, (result.formula, result.exact), strict=True):
            line = [network.title, str(result.alignment), f"{word}, taken: {halo_text(row.halo)}"]
            line.append(f"{row.reached:,} of {row.zone:,}")
            for errors in (row.double, row.single):
                line += [scientific(errors.rmse), scientific(errors.largest)]
            lines.append(line)
    return markdown(header, lines)


def offset_markdown(result: OffsetResult) -> str:
    """Return a line for each offset."""
    lines = [
        [
            str(offset),
            scientific(e.rmse),
            scientific(e.mer),
            f"{e.misclassified:,}",
            f"{e.different:,} of {e.values:,}",
        ]
        for offset, e in enumerate(result.errors)
    ]
    return markdown(["offset", "RMSE", "MER", "ME", "logits that differ"], lines)


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
