"""The kinds of files that are read back: how valid ones are made, spoilt, and read by a run."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from conftest import noise_image, write_image, write_random_model
from fuzz.mutations import change_bytes, change_json, to_text
from program import arguments, call

from exactile.assembly_record import certificate_of_whole
from exactile.errors import ExactileError
from exactile.finished import is_finished
from exactile.geometry import Box, Halo, Interval, Locality
from exactile.images import OutputImage, Plane, open_sink, open_source, read_mosaic
from exactile.images.digest import FileDigest
from exactile.images.journal import Journal
from exactile.images.journal_lines import make_line
from exactile.images.stitching_vector import find_vectors
from exactile.images.work_folder import work_folder
from exactile.models.formats.card import load_card
from exactile.noted import noted_plan, noted_steps
from exactile.parts import find_parts
from exactile.processing import ScaleRange, ZScore
from exactile.report.run_facts import Outcome, gather
from exactile.report.run_page import render
from exactile.settings import SegmentSettings
from exactile.shard import Shard
from exactile.statistics.folder import Part, StatisticsFolder
from exactile.statistics.partial import measure_whole
from exactile.statistics.record import PlaneRecord, Record, facts_of, write_record
from exactile.statistics.recorded import RecordedStatistics
from exactile.stored_json import MalformedError, sealed

NAME = "a.ome.tif"


@dataclass(frozen=True)
class Kind:
    """Some valid files in a folder, and what a run does with them."""

    valid: Path
    """The folder; a copy of it is spoilt."""
    spoil: Callable[[Path, random.Random], None]
    read: Callable[[Path], object]
    """Raises ExactileError for what it refuses."""


def spoil_json(pattern: str, again: Callable[[Any], Any] = lambda value: value) -> Any:
    """Return what spoils a JSON file; `again` makes it look as if a run had written it."""

    def spoil(folder: Path, rng: random.Random) -> None:
        path = rng.choice(sorted(folder.glob(pattern)))
        data = path.read_bytes()
        if rng.random() < 0.3:
            path.write_bytes(change_bytes(data, rng))
            return
        value = change_json(json.loads(data), rng)
        path.write_bytes(to_text(again(value) if isinstance(value, dict) else value))

    return spoil


def seal(value: dict[str, Any]) -> dict[str, Any]:
    return sealed(json.loads(json.dumps(value)))


# Journals

IMAGE = OutputImage((1100, 1100), np.dtype(np.uint8), size_z=2)
IDENTITY = {"the image": "a"}
JOB: Any = SimpleNamespace(
    model=SimpleNamespace(locality=Locality.isotropic(16, Halo(16, 16))),
    engines=[SimpleNamespace(name="eager")],
)
BOXES = [
    (Plane(0, z), Box((rows, Interval(0, 1100))))
    for z in range(2)
    for rows in Interval(0, 1100).split(1024)
]


def write(path: Path, stop: int | None = None) -> None:
    with Journal(path, IDENTITY) as lines:
        noted_plan(lines, JOB, (1100, 1100))
        noted_steps(lines, "t=0 z=0")
        stability = {"equal": True, "compared": 9, "different": 0, "largest_difference": 0.0}
        stability |= {"labels_different": 0, "window": [64, 64], "other": [96, 96]}
        plan = {"engine": "eager", "window": [64, 64], "zone": [32, 32], "strategy": "tile"}
        lines.note({"plan": plan, "before": {"windows": [], "stability": stability}})
        steps = [{"step": "Standardize", "numbers": {"mean": [1.5], "deviation": [2.0]}}]
        lines.note({"t=0 z=0": steps})
        with open_sink(path, IMAGE, journal=lines) as sink:
            for plane, box in BOXES[:stop]:
                if not sink.has(plane, box):
                    sink.write(plane, box, np.full((1, *box.shape), 7 + plane.z, np.uint8))
            if stop is not None:
                raise InterruptedError


def spoil_journal(folder: Path, rng: random.Random) -> None:
    path = work_folder(folder / NAME) / "journal"
    if rng.random() < 0.4:
        path.write_bytes(change_bytes(path.read_bytes(), rng))
        return
    records = [json.loads(line[9:]) for line in path.read_bytes().splitlines()]
    records = change_json(records, rng)
    written, checksum = b"", 0
    for record in records:
        line, checksum = make_line(record, checksum)
        written += line
    path.write_bytes(written)


def journal(base: Path) -> Kind:
    base.mkdir(parents=True)
    try:
        write(base / NAME, stop=3)
    except InterruptedError:
        return Kind(base, spoil_journal, lambda folder: write(folder / NAME))
    raise AssertionError("the image must have been begun")


# Certificates, and what shards leave


def segmented(base: Path, *rest: str) -> None:
    write_random_model(base / "model", depth=1, convolutions=1, base_width=2)
    write_image(base / "in" / NAME, noise_image((1100, 80)))
    words = arguments(base / "in", base / "out", *rest, model=base / "model", tileSize=200)
    assert call(words).code == 0


def certificate(base: Path) -> Kind:
    segmented(base)
    identity = json.loads((base / "out/certificates/a.ome.tif.json").read_bytes())["identity"]
    settings = SegmentSettings.from_options({"inpDir": base / "in", "outDir": base / "out"})

    def read(folder: Path) -> None:
        output = folder / "out" / NAME
        is_finished(output, identity)
        "".join(render(gather([Outcome(NAME, output, "done before", 1.0, "")]), settings))

    return Kind(base, spoil_json("out/certificates/*.json", seal), read)


def parts(base: Path) -> Kind:
    for index in range(2):
        segmented(base, "--shard", f"{index}/2")

    def read(folder: Path) -> None:
        try:
            for stored in find_parts(folder / "out").values():
                certificate_of_whole(stored, FileDigest(1, "0"), 1.0)
        except MalformedError as error:  # as `assemble_image` has it
            raise ExactileError from error

    spoilers = [
        spoil_json("out/certificates/*.json", seal),
        spoil_json("out/exactile/shards/*.json"),
    ]
    return Kind(base, lambda folder, rng: rng.choice(spoilers)(folder, rng), read)


# Statistics


def statistics(base: Path) -> Kind:
    choices = {
        f"{dtype}-{type(step).__name__}.ome.tif": (dtype, (step,))
        for dtype in ("uint16", "float32")
        for step in (ZScore(), ScaleRange(), ScaleRange(1.0, 99.8), ZScore(scope="image"))
    }
    for name, (dtype, steps) in choices.items():
        path = write_image(base / "in" / name, noise_image((2100, 40), dtype=dtype))
        with open_source(path) as source:
            folder = StatisticsFolder(base / "out")
            facts = facts_of(source, FileDigest.of(path), (0,), steps, 2)
            for shard, rows in ((Shard(0, 2), (0, 2)), (Shard(1, 2), (2, 3))):
                part = Part(folder.path(name, shard), shard, PlaneRecord(0, rows))
                record = measure_whole(steps, source, Plane(), (0,), part, [])
                write_record(part.path, Record(facts, str(shard), (record,)))

    def read(folder: Path) -> None:
        changed = [
            path.name
            for path in (folder / "out").iterdir()
            if path.read_bytes() != (base / "out" / path.name).read_bytes()
        ]
        for name in {name.partition(".ome.tif")[0] + ".ome.tif" for name in changed}:
            path, steps = folder / "in" / name, choices[name][1]
            with open_source(path) as source:
                there = StatisticsFolder(folder / "out")
                args = (there, steps, source, (0,), FileDigest.of(path), 2)
                RecordedStatistics(*args).fit(Plane())

    return Kind(base, spoil_json("out/*.json", seal), read)


# Stitching vectors


def vector(base: Path) -> Kind:
    base.mkdir(parents=True)
    lines = []
    for index in range(6):
        name = f"ä {index};x.ome.tif"
        (base / name).touch()
        lines.append(
            f"file: {name}; corr: 0.9; position: ({index * 60}, -3); grid: ({index}, 0);\n"
        )
    (base / "img-global-positions-1.txt").write_text("".join(lines), encoding="utf-8")

    def spoil(folder: Path, rng: random.Random) -> None:
        path = folder / "img-global-positions-1.txt"
        data = path.read_bytes()
        if rng.random() < 0.5:
            words = (
                b"1" * 4500,
                b"-9999999999",
                b" " * 9000,
                b"\0",
                b"..",
                b"\xff",
                b"(",
                b";" * 999,
            )
            old = rng.choice((b"0", b"60", b"file:", b"grid:", b"position:", b";", b".ome", b" "))
            data = data.replace(old, rng.choice(words), rng.choice((1, 3, -1)))
        path.write_bytes(change_bytes(data, rng) if rng.random() < 0.7 else data)

    def read(folder: Path) -> None:
        for path in find_vectors(folder):
            read_mosaic(path, folder)

    return Kind(base, spoil, read)


# Cards


def card(base: Path) -> Kind:
    write_random_model(base, depth=1, convolutions=1, base_width=2)
    spoil_card = spoil_json("model.json")

    def spoil(folder: Path, rng: random.Random) -> None:
        if rng.random() < 0.6:
            spoil_card(folder, rng)
            return
        (weights,) = folder.glob("*.safetensors")
        weights.write_bytes(change_bytes(weights.read_bytes(), rng))
        content = json.loads((folder / "model.json").read_bytes())
        content["weights"]["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
        (folder / "model.json").write_text(json.dumps(content))

    return Kind(base, spoil, load_card)


KINDS: dict[str, Callable[[Path], Kind]] = {
    each.__name__: each for each in (journal, certificate, parts, statistics, vector, card)
}


def failures(kind: Kind, work: Path, seeds: range) -> Iterator[tuple[int, Exception]]:
    """Yield the seeds of inputs that end in another error than one for people, with the error."""
    for seed in seeds:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(kind.valid, work, symlinks=True)
        kind.spoil(work, random.Random(seed))
        try:
            kind.read(work)
        except ExactileError as error:
            str(error).encode("utf-8", "backslashreplace")
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            yield seed, error
