"""A normalisation fitted with statistics that were measured before."""

from __future__ import annotations

import logging
from itertools import count

from exactile.images import Source, Whole
from exactile.images.digest import FileDigest
from exactile.normalization.blocks import Pixels, pixels_of
from exactile.normalization.fitting import fit_by
from exactile.normalization.gathering import Found, Gather, InconsistentError, Pass
from exactile.processing import Before, Pointwise
from exactile.statistics.folder import Part, StatisticsFolder
from exactile.statistics.record import damaged, facts_of, fitted_steps, rows_and_columns

logger = logging.getLogger(__name__)


class RecordedStatistics:
    """What a folder says of one image."""

    def __init__(
        self,
        folder: StatisticsFolder,
        steps: tuple[Before, ...],
        source: Source,
        channels: tuple[int, ...],
        digest: FileDigest,
        dimensions: int,
    ) -> None:
        """Find the files that were measured on this very image, for these steps and channels.

        Raises:
            StatisticsError: if files are missing, belong to something else or not together.
        """
        self._steps = steps
        self._source = source
        self._channels = channels
        self._wholes = source.wholes(dimensions)
        self._parts = folder.parts(
            source.path.name,
            facts_of(source, digest, channels, steps, dimensions),
            len(self._wholes),
            rows_and_columns(source, dimensions)[0],
        )

    def fit(self, whole: Whole) -> tuple[Pointwise, ...]:
        """Return the steps with the numbers of a plane or a volume, as `normalization.fit` does.

        Passes that the files do not hold, since they follow from what others found, are made here.

        Raises:
            StatisticsError: if a file is damaged.
            ImageError: if it has to be read, and cannot be.
        """
        parts = self._parts[self._wholes.index(whole)]
        if len(parts) == 1 and parts[0].record.steps is not None:
            return fitted_steps(parts[0].path, parts[0].record, self._steps, len(self._channels))
        pixels = pixels_of(self._source, whole, self._channels)
        numbers = count()

        def read(wanted: Pass[Found]) -> Found:
            number = next(numbers)
            if holds_pass(parts, number):
                return merged(parts, number, wanted, pixels)
            logger.info(
                "%s: %s is read: the statistics hold %d passes, and the next follows from them",
                self._source.path.name,
                whole,
                number,
            )
            return wanted.over(pixels)

        try:
            return fit_by(self._steps, pixels, read)
        except InconsistentError as error:
            raise damaged(*(part.path for part in parts)) from error


def holds_pass(parts: list[Part], number: int) -> bool:
    """Return whether every part of a plane holds the pass of this number, from 0."""
    return all(number < len(part.record.passes) for part in parts)


def merged(parts: list[Part], number: int, wanted: Pass[Found], pixels: Pixels) -> Found:
    """Return what the pass of this number found in the whole plane; `parts` in order of rows.

    `pixels` are those of the whole plane, for their number.

    Raises:
        StatisticsError: if a part is not what such a pass finds.
        InconsistentError: if all parts together are not.
    """
    together = wanted.together
    channels = 1 if together else pixels.channels
    found = wanted.gather.merge([_decoded(part, number, wanted.gather, channels) for part in parts])
    wanted.gather.check(found, channels, pixels.count * (pixels.channels if together else 1))
    return found


def _decoded(part: Part, number: int, gather: Gather[Found], channels: int) -> Found:
    try:
        found = gather.decode(part.record.passes[number])
        gather.check(found, channels, None)
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise damaged(part.path) from error
    return found
