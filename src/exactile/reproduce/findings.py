"""What the measured figures say, in sentences: computed from them, and from the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from exactile.reproduce.experiments import PUBLISHED_WIDTH, Form, HaloTable
from exactile.reproduce.published import IMAGES, published_table
from exactile.reproduce.run import HaloResult, HaloRow, OffsetResult, ShortfallResult
from exactile.reproduce.tables import halo_text, scientific

LAST_BITS = 1e-14
"""Differences of a softmax in float64 that are not larger are those of its last bits."""


def of_table(result: HaloResult) -> list[str]:
    """Return what a table shows."""
    needed, halo = halo_text(result.needed), halo_text(result.locality.halo)
    exact = result.exact_row
    start = (
        f"The traced halo is {needed} px, rounded up to {halo} (F = {result.locality.alignment}); "
        f"the papers' formula gives {result.table.network.formula}."
    )
    return [start, _at_the_needed_halo(result, exact), *_published_there(result), _below(result)]


def in_short(result: HaloResult) -> str:
    """Return in a line what a table ends in."""
    exact = result.exact_row
    ending = (
        "RMSE 0.0 exactly, every bit equal"
        if exact.different == 0
        else f"RMSE {scientific(exact.rmse)}, by rounding; {exact.me:g} labels differ"
    )
    return f"{result.table.title}: halo {halo_text(exact.halo)} px, {ending}"


def _at_the_needed_halo(result: HaloResult, exact: HaloRow) -> str:
    halo = halo_text(exact.halo)
    if exact.different == 0:
        enough = [row for row in result.rows if is_enough(result, row)]
        equal = [halo_text(row.halo) for row in enough if row.different == 0]
        return (
            f"With it all {exact.logits:,} logits have the bits of the whole-image pass: the RMSE "
            f"is 0.0 exactly. Bit-equal rows: {', '.join(equal)} px."
        )
    again = "" if result.repeatable else " (nor does that pass repeat itself)"
    return (
        f"With {halo} px NOT all bits are those of the whole-image pass{again}: "
        f"{exact.different:,} of {exact.logits:,} logits differ, by rounding: the softmax by at "
        f"most {scientific(exact.largest)}; {exact.me:g} labels differ."
    )


def is_enough(result: HaloResult, row: HaloRow) -> bool:
    """Return whether the halo of `row` holds the needed one on both sides."""
    halo = result.locality.halo
    return row.halo.low >= halo.low and row.halo.high >= halo.high


def _published_there(result: HaloResult) -> list[str]:
    """Return what the papers print where the formula is satisfied, and what ours is there."""
    formula, needed = result.table.network.formula, result.needed
    sentences, rounding = [], False
    for table in map(published_table, result.table.published):
        enough = [row for row in table.rows if row.halo >= formula]
        if enough:
            values = ", ".join(f"{scientific(row.rmse)} at {row.halo}" for row in enough)
            sentences.append(f"The published RMSE there ({table.paper}): {values} px.")
            rounding |= any(row.rmse > 0 for row in enough)
    if rounding and result.exact_row.different == 0:
        sentences.append(
            "Small numbers like these may be rounding, or a halo that is a little too small: they "
            "do not say which. Where equal input gives equal bits, all that is not 0.0 is missing "
            "input."
        )
    for row in result.rows:
        missing = max(needed.low - row.halo.low, needed.high - row.halo.high)
        if formula <= row.halo.low == row.halo.high and missing > 0:
            seen = (
                f"{row.different:,} logits differ there, the softmax by at most "
                f"{scientific(row.largest)}"
                if row.different
                else "here they left no trace in any bit"
            )
            sentences.append(
                f"At {halo_text(row.halo)} px the formula is satisfied, yet {missing} px are "
                f"missing on one side: {seen}."
            )
    return sentences


def _below(result: HaloResult) -> str:
    short = [row for row in result.rows if not is_enough(result, row)]
    falling = all(a.rmse > b.rmse for a, b in pairwise(short))
    first, last = short[0], short[-1]
    trend = "with every step" if falling else "though not with every step"
    sentence = (
        f"Below the needed halo the RMSE falls, {trend}, from {scientific(first.rmse)} at "
        f"{halo_text(first.halo)} px to {scientific(last.rmse)} at {halo_text(last.halo)} px"
    )
    theirs = [
        f"{scientific(row.rmse)} ({table.paper})"
        for table in map(published_table, result.table.published)
        if (row := table.row(0)) is not None
    ]
    return f"{sentence}; published at 0 px: {', '.join(theirs)}."


def of_offsets(result: OffsetResult) -> list[str]:
    """Return what the curve shows."""
    equal = [offset for offset, e in enumerate(result.errors) if e.different == 0]
    aligned = [offset for offset in range(len(result.errors)) if offset % result.alignment == 0]
    others = [e for offset, e in enumerate(result.errors) if offset % result.alignment]
    low, high = min(e.rmse for e in others), max(e.rmse for e in others)
    verdict = (
        "exactly the multiples of F"
        if equal == aligned
        else f"the multiples of F are {', '.join(map(str, aligned))}"
    )
    return [
        f"All bits are equal at offsets of {', '.join(map(str, equal))} px: {verdict} "
        f"(F = {result.alignment}). At all others the RMSE is between {scientific(low)} and "
        f"{scientific(high)}, and up to {max(e.misclassified for e in others):,} labels differ.",
        "Published (figure 7): an RMSE of about 0 only at multiples of 16.",
    ]


def of_shortfalls(results: Sequence[ShortfallResult]) -> list[str]:
    """Return what the networks show for which the formula is too small."""
    sentences = []
    for result in results:
        formula, exact = result.formula, result.exact
        seen = formula.double.largest
        wrong = "is wrong by up to" if seen > LAST_BITS else "shows it in the last bits alone:"
        sentences.append(
            f"{result.shortfall.network.title}: at the formula's radius, {halo_text(formula.halo)} "
            f"px after rounding to F, {formula.reached:,} of {formula.zone:,} pixels of a zone "
            f"depend on input that it does not have; the softmax {wrong} {scientific(seen)} in "
            f"float64. At {halo_text(exact.halo)} px {exact.reached or 'none'} do, and it differs "
            f"by {scientific(exact.double.largest)} in float64 and "
            f"{scientific(exact.single.largest)} in float32."
        )
    return sentences


def counted(number: int, noun: str) -> str:
    """Return `number` and `noun`, with an s unless it is one.

    >>> counted(1, "image"), counted(2, "image")
    ('1 image', '2 images')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def departures(form: Form) -> list[str]:
    """Return how the experiments of `form` differ from the published ones."""
    found = []
    if form.images != IMAGES:
        found.append(f"{counted(form.images, 'image')} for each row; published: {IMAGES}.")
    found += [f"{table.title}: {text}" for table in form.tables for text in _of_table(table)]
    return [
        *found,
        "The images are synthetic slides or N(0, 1) noise, from seeds; published: microscope "
        "images, and noise for the untrained U-Net.",
        "Windows at an image's edges are moved inwards, all of one shape; in the papers they end "
        "at the edge. Zones there have more context, and smaller errors where a halo is too small.",
        "The relative runtime is the wall time of the tiled passes against that of the whole-image "
        "pass (mean of one before and one after), without image I/O; published: with I/O and the "
        "loading of the model. Other work on the machine distorts it; the processor time of this "
        "process, and the computed pixels for each pixel of the image, stand beside it.",
        "PyTorch, float32, logits as they are; published: TensorFlow, logits through ReLU and "
        "batch normalisation.",
    ]


def _of_table(table: HaloTable) -> list[str]:
    texts = []
    network = table.network
    width = getattr(network, "width", PUBLISHED_WIDTH)
    if width != PUBLISHED_WIDTH:
        texts.append(f"base width {width}; published: {PUBLISHED_WIDTH}.")
    published = [published_table(name) for name in table.published]
    if any(table.shape != (other.side, other.side) for other in published):
        sides = " and ".join(f"{p.side} x {p.side} ({p.paper})" for p in published)
        texts.append(f"images of {table.shape[1]} x {table.shape[0]} px; published: {sides}.")
    if table.shape[0] <= table.tile:
        texts.append("the image is one window high: tiled along X alone.")
    if not network.trained and "untrained" not in table.published[0]:
        weights = "seeded weights and batch statistics of one slide; published: trained."
        texts.append(weights)
    return texts
