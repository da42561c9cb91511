"""The files of statistics in a folder: which are an image's, and whether they belong together.

    image.ome.tif.json             all of the image, by one worker; it is taken where it is there
    image.ome.tif.0-of-3.json      the rows that shard 0/3 read
    image.ome.tif.1-of-3.json

A shard that has nothing of an image writes no file for it. The rows of all parts must follow one
another, over all planes, without a gap and without any row twice.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from exactile.errors import SettingsError, StatisticsError
from exactile.images.journal import differences
from exactile.shard import ALL, Shard
from exactile.statistics.record import PlaneRecord, damaged, read_record

FOLDER = Path("exactile", "statistics")
"""The sub-folder of the output folder that holds the files."""

_PART = re.compile(r"(?P<name>.+)\.(?P<index>0|[1-9]\d*)-of-(?P<count>[1-9]\d*)\.json", re.DOTALL)


@dataclass(frozen=True)
class Part:
    """Some rows of a plane, and where they stand."""

    path: Path
    shard: Shard
    record: PlaneRecord


class StatisticsFolder:
    """The files of a folder, as they were when it was opened."""

    def __init__(self, folder: Path) -> None:
        """List `folder`, which may be missing. Raises StatisticsError if it cannot be listed."""
        self.folder = folder
        self._parts: dict[str, dict[Shard, Path]] = defaultdict(dict)
        try:
            names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        except OSError as error:
            raise StatisticsError(f"{folder} cannot be listed ({error.strerror})") from error
        for match in filter(None, map(_PART.fullmatch, names)):
            index, count = int(match["index"]), int(match["count"])
            if index < count:
                self._parts[match["name"]][Shard(index, count)] = folder / match.string

    @classmethod
    def given(cls, folder: Path) -> StatisticsFolder:
        """Return the folder that --statistics names: the files', or the output folder above it.

        Raises:
            SettingsError: if there is no such folder.
        """
        if not folder.is_dir():
            raise SettingsError(
                f"--statistics {folder} is not a folder; give the --outDir of exactile statistics"
            )
        inner = folder / FOLDER
        return cls(inner if inner.is_dir() else folder)

    def path(self, name: str, shard: Shard) -> Path:
        """Return where the statistics of the image `name` are that `shard` measures."""
        part = "" if shard == ALL else f".{shard.index}-of-{shard.count}"
        return self.folder / f"{name}{part}.json"

    def usable(self, name: str, facts: Mapping[str, str], count: int) -> list[Part]:
        """Return what there is of the image `name` for these facts from `count` shards."""
        found = []
        for shard, path in self._files(name).items():
            if shard.count == count:
                # What is of another image or version is written anew, or not used.
                with suppress(StatisticsError):
                    found += _parts_in(path, shard, facts)
        return found

    def parts(
        self, name: str, facts: Mapping[str, str], planes: int, rows: int
    ) -> list[list[Part]]:
        """Return what there is of the image `name`: for each plane the parts, in order of rows.

        `planes` and `rows` are how many planes the image has, and rows of blocks each.

        Raises:
            StatisticsError: if files are missing, belong to something else or not together.
        """
        files = self._files(name)
        if ALL in files:
            files = {ALL: files[ALL]}
        if not files:
            raise StatisticsError(
                f"{self.folder} holds no statistics of {name}; measure them with exactile "
                "statistics, or leave --statistics out"
            )
        shards = list(files)
        other = next((shard for shard in shards if shard.count != shards[0].count), None)
        if other:
            raise StatisticsError(
                f"{files[shards[0]]} and {files[other]} are of another number of shards; delete "
                "those that are not meant"
            )
        found: list[list[Part]] = [[] for _ in range(planes)]
        for shard, path in files.items():
            for part in _parts_in(path, shard, facts):
                if not 0 <= part.record.plane < planes:
                    raise damaged(path)
                found[part.record.plane].append(part)
        for parts in found:
            parts.sort(key=lambda part: part.record.rows)
        if objection := _gap_or_overlap(found, rows):
            raise StatisticsError(f"{self.folder}: the statistics of {name} {objection}")
        return found

    def _files(self, name: str) -> dict[Shard, Path]:
        """Return the files of the image `name`, in the order of the shards."""
        files = dict(sorted(self._parts.get(name, {}).items()))
        whole = self.path(name, ALL)
        return files | ({ALL: whole} if whole.is_file() else {})


def covers(parts: list[Part], rows: int) -> bool:
    """Return whether `parts` of a plane, in order, hold each of its `rows` of blocks once."""
    starts, stops = zip(*(part.record.rows for part in parts), strict=True)
    return (0, *stops) == (*starts, rows)


def _parts_in(path: Path, shard: Shard, facts: Mapping[str, str]) -> list[Part]:
    """Return what the file of `shard` holds.

    Raises:
        StatisticsError: if that is nothing, or of something else than its name and `facts` say.
    """
    record = read_record(path)
    if not record.planes:
        raise damaged(path)
    if record.shard != str(shard):
        raise StatisticsError(
            f"{path}: is named as the file of shard {shard}, and holds shard {record.shard}: it is "
            "a copy, or was renamed; delete it"
        )
    if found := "; ".join(differences(record.facts, facts)):
        raise StatisticsError(
            f"{path}: belongs to something else: {found}; delete it, or measure again with these "
            "images and settings"
        )
    return [Part(path, shard, each) for each in record.planes]


def _gap_or_overlap(planes: list[list[Part]], rows: int) -> str:
    """Return in words why the parts do not cover all rows of all planes once; empty if they do."""
    before: Part | None = None
    for number, parts in enumerate(planes):
        done = 0
        for part in parts:
            start, stop = part.record.rows
            if not 0 <= start < stop <= rows:
                return f"hold rows {start} to {stop - 1} of {rows} in {part.path}: delete it"
            if start > done:
                return _missing(number, range(done, start), before, part)
            if start < done:
                return (
                    f"hold rows {start} to {done - 1} of plane {number} more than once, in "
                    f"{part.path.name} too: shards were measured with other collections; measure "
                    "all of them again"
                )
            before, done = part, stop
        if done < rows:
            after = next((part for later in planes[number + 1 :] for part in later), None)
            return _missing(number, range(done, rows), before, after)
    return ""


def _missing(plane: int, rows: range, before: Part | None, after: Part | None) -> str:
    """Return which shard the missing rows between two parts were for."""
    known = before or after
    assert known is not None, "no file is without a part"
    first = before.shard.index + 1 if before else 0
    last = after.shard.index - 1 if after else known.shard.count - 1
    what = f"lack rows {rows.start} to {rows.stop - 1} of plane {plane}"
    names = (
        [str(Shard(index, known.shard.count)) for index in (first, last)] if first <= last else []
    )
    match names:
        case []:
            return f"{what}: shards were measured with other collections; measure all of them again"
        case [one, other] if one == other:
            return f"{what}: those of shard {one} are missing; measure it"
        case _:
            return f"{what}: shards from {names[0]} to {names[1]} are missing; measure them"
