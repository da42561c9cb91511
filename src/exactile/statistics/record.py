"""What a file of statistics holds, and how it is written and read."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

from exactile.certificate import StepRecord
from exactile.errors import OutputError, StatisticsError
from exactile.geometry import PLANES
from exactile.images import Source
from exactile.images.digest import FileDigest
from exactile.images.grid import cell_count
from exactile.images.links import fresh
from exactile.images.work_folder import temporary_name
from exactile.processing import Before, Measured, Pointwise, Standardize
from exactile.stored_json import MalformedError, checked, read_json, sealed, unsealed

FORMAT = 1
"""Of the files; another one cannot be read."""

_POINTWISE = {kind.__name__: TypeAdapter[Any](kind) for kind in get_args(Pointwise)}


@dataclass(frozen=True)
class PlaneRecord:
    """What is known of one plane or volume, or of some rows of its blocks."""

    plane: int
    """Its number in `Source.planes`; of a volume, in `Source.volumes`."""
    rows: tuple[int, int]
    """The rows of blocks that were read: the first, and the one after the last."""
    passes: tuple[Any, ...] = ()
    """What each pass over these rows gathered, as `Gather.encode` gave it; see `fit_by`."""
    steps: tuple[StepRecord, ...] | None = None
    """The fitted steps, where these are all rows; there are no passes then."""


@dataclass(frozen=True)
class Record:
    """A file of statistics."""

    facts: dict[str, str]
    """What the numbers belong to, and depend on, by names that people understand."""
    shard: str
    """Which part of a collection was measured, such as 0/3; 0/1 is all of it."""
    planes: tuple[PlaneRecord, ...]
    """In the order of the planes; those of which the shard read nothing are left out."""
    format: int = FORMAT


_RECORD = TypeAdapter(Record)


def facts_of(
    source: Source,
    digest: FileDigest,
    channels: tuple[int, ...],
    steps: tuple[Before, ...],
    dimensions: int,
) -> dict[str, str]:
    """Return all that the statistics of an image depend on, of its planes or of its volumes.

    The blocks are among it: sums of floats depend on them, and parts are rows of them.
    """
    return {
        "the image's name": source.path.name,
        "the image": digest.sha256,
        "the blocks": " of ".join(
            " x ".join(map(str, s))
            for s in (rows_and_columns(source, dimensions), source.block_of(dimensions))
        ),
        "the channels": ",".join(map(str, channels)),
        "the normalisation": json.dumps([asdict(StepRecord.of(step)) for step in steps]),
    }


def rows_and_columns(source: Source, dimensions: int) -> tuple[int, int]:
    """Return how many rows of blocks a plane or a volume has, and how many blocks a row has."""
    rows, columns = cell_count(source.shape, source.chunk)
    return (rows if dimensions == PLANES else rows * -(-source.size_z // source.depth), columns)


def read_record(path: Path) -> Record:
    """Return what the file `path` holds.

    Raises:
        StatisticsError: if it cannot be read, is damaged, or is of another format.
    """
    try:
        value = read_json(path)
        found = value.get("format") if isinstance(value, dict) else None
        if type(found) is int and found != FORMAT:
            raise StatisticsError(
                f"{path}: is of format {found}, and this version of exactile reads {FORMAT}; "
                "measure again with this version"
            )
        return checked(_RECORD, unsealed(value))
    except OSError as error:
        raise StatisticsError(f"{path}: cannot be read ({error.strerror})") from error
    except MalformedError as error:
        raise damaged(path) from error


def write_record(path: Path, record: Record) -> None:
    """Write `record` and its digest to `path`, which has it all or is as it was.

    Raises:
        OutputError: if it cannot be written.
    """
    partial = path.with_name(temporary_name(path.name))
    text = json.dumps(sealed(asdict(record)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh(partial).write_text(text + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); make room or permit writing in --outDir"
        ) from error


def fitted_steps(
    path: Path, record: PlaneRecord, asked: tuple[Before, ...], channels: int
) -> tuple[Pointwise, ...]:
    """Return the steps that the file `path` gives for those `asked`, for so many channels.

    Raises:
        StatisticsError: if they are not those steps with numbers.
    """
    assert record.steps is not None, "a plane that was read in part has no steps"
    try:
        fitted = tuple(checked(_POINTWISE[each.step], each.numbers) for each in record.steps)
        pairs = list(zip(asked, fitted, strict=True))
    except (KeyError, ValueError) as error:
        raise damaged(path) from error
    if not all(_fits(found, step, channels) for step, found in pairs):
        raise damaged(path)
    return fitted


def _fits(found: Pointwise, asked: Before, channels: int) -> bool:
    if not isinstance(asked, Measured):
        return found == asked
    count = 1 if asked.scope == "image" else channels
    return (
        isinstance(found, Standardize)
        and len(found.mean) == len(found.deviation) == count
        and all(map(isfinite, (*found.mean, *found.deviation)))
        and all(deviation > 0 for deviation in found.deviation)
    )


def damaged(*paths: Path) -> StatisticsError:
    """Return the error for a file that does not hold what it should, or for one of several."""
    which = str(paths[0]) if len(paths) == 1 else f"one of {', '.join(map(str, paths))}"
    return StatisticsError(
        f"{which}: is damaged, or no file of statistics; delete it and measure again with exactile "
        "statistics"
    )
