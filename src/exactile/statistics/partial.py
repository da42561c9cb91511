"""What a shard measures of a plane or a volume, as far as it can without the others.

One that is the shard's alone is fitted at once. Of one that it shares, it makes one pass a run:
what the next one looks for may follow from what this one finds in the whole. Percentiles of more
than 16 bits take several passes, and a step that is measured on what another measured step leaves
takes its passes after those; everything else takes one.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import count

from exactile.certificate import StepRecord
from exactile.images import Source, Whole
from exactile.normalization import fit
from exactile.normalization.blocks import pixels_of
from exactile.normalization.fitting import fit_by
from exactile.normalization.gathering import Found, InconsistentError, Pass
from exactile.processing import Before
from exactile.statistics.folder import Part, covers
from exactile.statistics.record import PlaneRecord, damaged, rows_and_columns
from exactile.statistics.recorded import holds_pass, merged


class _NothingMore(Exception):  # noqa: N818
    """Ends a fit where the next pass has to wait for other shards."""


def measure_whole(
    steps: tuple[Before, ...],
    source: Source,
    whole: Whole,
    channels: tuple[int, ...],
    mine: Part,
    others: list[Part],
) -> PlaneRecord:
    """Return what is known of the rows of `mine` after another pass over them.

    It is `mine` as it is, where all is done or the other shards have to make a pass first.

    Raises:
        ImageError: if the pixels cannot be read, or are not finite.
        StatisticsError: if a part of another shard is damaged.
    """
    record = mine.record
    rows = rows_and_columns(source, whole.dimensions)[0]
    if record.rows == (0, rows):
        if record.steps is not None:
            return record
        fitted = fit(steps, source, whole, channels)
        return replace(record, steps=tuple(StepRecord.of(step) for step in fitted))
    parts = sorted([mine, *others], key=lambda part: part.record.rows)
    complete = covers(parts, rows)
    made = list(record.passes)
    numbers = count()
    pixels = pixels_of(source, whole, channels)

    def read(wanted: Pass[Found]) -> Found:
        number = next(numbers)
        if number == len(made):
            some = pixels_of(source, whole, channels, range(*record.rows))
            made.append(wanted.gather.encode(wanted.over(some)))
        elif complete and holds_pass(parts, number):
            return merged(parts, number, wanted, pixels)
        raise _NothingMore

    with suppress(_NothingMore):
        try:
            fit_by(steps, pixels, read)
        except InconsistentError as error:
            raise damaged(*(part.path for part in parts)) from error
    return replace(record, passes=tuple(made))
