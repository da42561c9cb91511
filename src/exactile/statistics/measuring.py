"""Measures the statistics of a collection, or of a shard's part of it, and writes them down.

    image 1, plane 0   row 0 |
                       row 1 |  shard 0/2
                       row 2 |
    image 2, plane 0   row 0 |
             plane 1   row 0 |  shard 1/2
    image 3, plane 0   row 0 |

The units of work are the rows of blocks of all planes, or volumes, of all images, in order, so that
one large image and thousands of small ones split alike.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch

from exactile.failures import explain
from exactile.images import open_source
from exactile.inputs import digest_of
from exactile.models.loading import load_model
from exactile.models.model import Model
from exactile.normalization import describe
from exactile.outputs import make_folder, plan_outputs
from exactile.segment import choose_channels
from exactile.settings import SegmentSettings
from exactile.shard import ALL, Shard
from exactile.statistics.folder import FOLDER, Part, StatisticsFolder
from exactile.statistics.partial import measure_whole
from exactile.statistics.record import (
    PlaneRecord,
    Record,
    facts_of,
    rows_and_columns,
    write_record,
)

logger = logging.getLogger(__name__)

EVERY = range(sys.maxsize)
"""All units of an image, however many they are."""


@dataclass(frozen=True)
class Measured:
    """How one image went."""

    path: Path
    """The image."""
    error: str
    """Empty, or why it failed."""


def measure_collection(settings: SegmentSettings, shard: Shard) -> Iterator[Measured]:
    """Measure the shard's part of every image, and yield how each went.

    An image that fails does not stop the others. What is written already, for the same images and
    settings, is not measured again.

    Raises:
        ExactileError: if no image could be done at all: settings, model, collection, output folder.
    """
    paths = tuple(plan_outputs(settings))
    model = load_model(settings.model, settings.told, exchange=True)
    make_folder(settings.out_dir)
    folder = StatisticsFolder(settings.out_dir / FOLDER)
    logger.info("measures what this needs: %s", describe(model.before))
    work = _part_of(paths, shard, model.dimensions)
    if not work:
        logger.info("there are more shards than rows of blocks: nothing is left for %s", shard)
    for path, units in work.items():
        error = ""
        try:
            _measure(folder, shard, model, settings.channel, path, units)
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is this image's failure
            error = explain(failure, path)
        yield Measured(path, error)


def _part_of(paths: tuple[Path, ...], shard: Shard, dimensions: int) -> dict[Path, range]:
    """Return which of its units the shard measures of each image."""
    if shard == ALL:
        return dict.fromkeys(paths, EVERY)
    ends = tuple(accumulate(_units(path, dimensions) for path in paths))
    part = shard.part(ends[-1])
    starts = (0, *ends[:-1])
    found = {
        path: _common(part, range(start, end))
        for path, start, end in zip(paths, starts, ends, strict=True)
    }
    return {path: units for path, units in found.items() if units}


def _units(path: Path, dimensions: int) -> int:
    """Return how many rows of blocks all planes, or all volumes, of an image have.

    It is 1 where it cannot be opened: so one shard gets it to do, and says why it cannot be.
    """
    try:
        with open_source(path) as source:
            wholes = source.wholes(dimensions)
            return len(wholes) * rows_and_columns(source, dimensions)[0]
    except Exception:  # noqa: BLE001 - whatever it is, it is said when the image is measured
        return 1


def _measure(
    folder: StatisticsFolder,
    shard: Shard,
    model: Model,
    wanted: tuple[int, ...] | None,
    path: Path,
    units: range,
) -> None:
    """Measure `units` of the image `path`, and write what is found.

    Raises:
        ExactileError: if anything stands in the way; what is written stays as it was.
    """
    target = folder.path(path.name, shard)
    with open_source(path, threads=torch.get_num_threads()) as source:
        channels = choose_channels(source, wanted, model.channels)
        facts = facts_of(source, digest_of(path), channels, model.before, model.dimensions)
        known = folder.usable(path.name, facts, shard.count)
        rows = rows_and_columns(source, model.dimensions)[0]
        planes = []
        for number, whole in enumerate(source.wholes(model.dimensions)):
            part = _common(units, range(number * rows, (number + 1) * rows))
            if not part:
                continue
            mine = Part(target, shard, PlaneRecord(number, (part.start, part.stop)))
            here = [each for each in known if each.record.plane == number]
            others = [each for each in here if each.shard != shard]
            done = [each for each in here if each.shard == shard]
            if done and done[0].record.rows == mine.record.rows:
                mine = done[0]
            planes.append(measure_whole(model.before, source, whole, channels, mine, others))
    if planes == [each.record for each in known if each.shard == shard]:
        logger.info(
            "%s: nothing is read: shard %s has measured it before, as far as it can without others",
            path.name,
            shard,
        )
        return
    write_record(target, Record(facts, str(shard), tuple(planes)))
    logger.info("%s: wrote %s", path.name, target)


def _common(first: range, second: range) -> range:
    """Return what two ranges have in common, counted from the start of the second."""
    start = second.start
    return range(max(first.start - start, 0), min(first.stop - start, len(second)))
