"""Statistics measured apart and in shards: the same bits, and no parts but those that belong."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import noise_image, write_image
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from program import Ended, arguments, call, files_in

from exactile.images import Plane, Source, open_source
from exactile.images.digest import FileDigest
from exactile.normalization import fit, fit_array, parse_normalization
from exactile.normalization.blocks import pixels_of_array
from exactile.normalization.fitting import fit_by
from exactile.normalization.gathering import Found, Pass
from exactile.processing import Before, Clip, Linear, Pointwise, ScaleRange, ZScore
from exactile.statistics.folder import StatisticsFolder
from exactile.statistics.recorded import RecordedStatistics

DTYPES = [np.uint8, np.uint16, np.uint32, np.int8, np.int16, np.int32, np.float32, np.float64]
STEPS: dict[str, tuple[Before, ...]] = {
    "none": (),
    "zscore": (ZScore(least=1.0),),
    "zscore of the image": (ZScore("image", epsilon=1e-6),),
    "minmax": (ScaleRange(),),
    "percentile": (ScaleRange(1, 99.8),),
    "percentile of the image": (ScaleRange(3, 90, "image"),),
    "scale": (Linear((0.5,), (3.0,)),),
    "several": (Clip(-90, 90), ZScore(), ScaleRange(2, 97), Linear((2.0,), (0.0,)), ZScore()),
}
NAMES = ("a.ome.tif", "b.ome.tif", "c.ome.tif")


# Parts merge into the bits of the whole


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays(
            dtype,
            (2, 9, 7),
            elements=st.floats(-100, 100, width=32) if dtype(0.5) else None,
        )
    ),
    st.sampled_from(list(STEPS.values())),
    st.lists(st.integers(1, 11), max_size=5, unique=True),
)
def test_parts_cut_anywhere_give_the_bits_of_the_whole(
    pixels: NDArray[Any], steps: tuple[Before, ...], cuts: list[int]
) -> None:
    whole = pixels_of_array(pixels, (3, 2))
    blocks = list(whole.blocks())
    bounds = [0, *sorted(cuts), len(blocks)]
    parts = [blocks[start:stop] for start, stop in pairwise(bounds)]

    def read(wanted: Pass[Found]) -> Found:
        texts = [
            json.dumps(wanted.gather.encode(wanted.over(replace(whole, blocks=part.__iter__))))
            for part in parts
        ]
        return wanted.gather.merge([wanted.gather.decode(json.loads(text)) for text in texts])

    assert fit_by(steps, whole, read) == fit_array(steps, pixels, (3, 2))


# The program


def write_script(path: Path) -> Path:
    """Write a network that says nothing of its normalisation."""
    torch.manual_seed(0)
    torch.jit.script(torch.nn.Conv2d(1, 2, 3, padding=1).eval()).save(str(path))
    return path


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_script(tmp_path_factory.mktemp("script") / "network.pt")


def write_collection(folder: Path, dtype: Any = np.float32) -> Path:
    """Write an image of five rows of blocks, one of three planes of two rows, and one of one."""
    shapes = {"a.ome.tif": (4200, 30), "b.ome.tif": (3, 1050, 40), "c.ome.tif": (20, 30)}
    for seed, (name, shape) in enumerate(shapes.items()):
        pixels = noise_image(shape, seed, dtype)
        write_image(folder / name, pixels / pixels.dtype.type(7) if dtype == np.float32 else pixels)
    return folder


def measure(folder: Path, script: Path, *rest: str, **environment: str) -> Ended:
    words = ["statistics", "--inpDir", folder / "in", "--outDir", folder / "out"]
    return call([*map(str, words), "--model", str(script), *rest], **environment)


def measure_shards(folder: Path, script: Path, count: int, *rest: str) -> None:
    for index in range(count):
        ended = measure(folder, script, "--shard", f"{index}/{count}", *rest)
        assert ended.code == 0, ended.log


def recorded(source: Source, folder: Path, steps: tuple[Before, ...]) -> RecordedStatistics:
    found = StatisticsFolder.given(folder / "out")
    digest = FileDigest.of(source.path)
    return RecordedStatistics(found, steps, source, (0,), digest, dimensions=2)


def fitted(
    folder: Path, name: str, steps: tuple[Before, ...], reading: bool = True
) -> dict[Plane, tuple[Pointwise, ...]]:
    """Return what the files in the folder give for an image, which may be read or not."""
    with open_source(folder / "in" / name) as source:
        statistics = recorded(source, folder, steps)
        if not reading:
            source.read_chunk = None  # type: ignore[assignment]
        return {plane: statistics.fit(plane) for plane in source.planes}


def measured(folder: Path, name: str, steps: tuple[Before, ...]) -> dict[Plane, Any]:
    with open_source(folder / "in" / name) as source:
        return {plane: fit(steps, source, plane, (0,)) for plane in source.planes}


@pytest.mark.parametrize(
    ("count", "normalization", "rounds"),
    [(n, "zscore", 1) for n in (1, 2, 7)]
    + [(n, "percentile:1:99.8", 2) for n in (3, 16)]
    + [(3, "scale:2:1", 1), (3, "minmax", 1)],
)
def test_shards_give_the_bits_of_passes_over_the_image(
    tmp_path: Path, script: Path, count: int, normalization: str, rounds: int
) -> None:
    write_collection(tmp_path / "in")
    steps = parse_normalization(normalization)
    expected = {name: measured(tmp_path, name, steps) for name in NAMES}
    for _ in range(rounds):
        measure_shards(tmp_path, script, count, "--normalization", normalization)
        assert {name: fitted(tmp_path, name, steps) for name in NAMES} == expected
    assert {name: fitted(tmp_path, name, steps, reading=False) for name in NAMES} == expected


def test_every_shard_has_as_much_to_read_as_the_others(tmp_path: Path, script: Path) -> None:
    write_collection(tmp_path / "in")
    measure_shards(tmp_path, script, 4)
    rows = dict.fromkeys(range(4), 0)
    for path in (tmp_path / "out" / "exactile" / "statistics").iterdir():
        record = json.loads(path.read_text())
        index = int(record["shard"].split("/")[0])
        rows[index] += sum(stop - start for start, stop in (p["rows"] for p in record["planes"]))
    assert list(rows.values()) == [3, 3, 3, 3]


@pytest.mark.parametrize("count", [1, 3])
def test_segment_gives_the_same_bytes_and_numbers_either_way(
    tmp_path: Path, script: Path, count: int
) -> None:
    write_collection(tmp_path / "in", np.uint16)
    measure_shards(tmp_path, script, count)
    for out, options in (("one", {}), ("two", {"statistics": tmp_path / "out"})):
        words = arguments(tmp_path / "in", tmp_path / out, model=script, tileSize=512, **options)
        assert call(words).code == 0
    for name in NAMES:
        one, two = ((tmp_path / out / name).read_bytes() for out in ("one", "two"))
        assert one == two
        records = [
            json.loads((tmp_path / out / "certificates" / f"{name}.json").read_text())
            for out in ("one", "two")
        ]
        assert records[0]["input"] == records[1]["input"]
        assert records[0]["identity"] == records[1]["identity"]


def test_a_shard_that_runs_again_reads_nothing_and_leaves_the_same_bytes(
    tmp_path: Path, script: Path
) -> None:
    write_collection(tmp_path / "in")
    measure_shards(tmp_path, script, 2)
    folder = tmp_path / "out" / "exactile" / "statistics"
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    ended = measure(tmp_path, script, "--shard", "1/2")
    assert "b.ome.tif: nothing is read" in ended.log
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert after == before
    shutil.rmtree(folder)
    measure_shards(tmp_path, script, 2)
    assert {path: path.read_bytes() for path in folder.iterdir()} == {
        path: content for path, (content, _) in before.items()
    }


def test_the_environment_says_which_shard_it_is(tmp_path: Path, script: Path) -> None:
    write_collection(tmp_path / "in")
    pod = {"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETION_COUNT": "3"}
    assert measure(tmp_path, script, **pod).code == 0
    written = [
        "exactile/statistics/b.ome.tif.2-of-3.json",
        "exactile/statistics/c.ome.tif.2-of-3.json",
    ]
    assert files_in(tmp_path / "out") == written
    assert measure(tmp_path, script, "--shard", "0/1", **pod).code == 0
    whole = [f"exactile/statistics/{name}.json" for name in NAMES]
    assert files_in(tmp_path / "out") == sorted([*written, *whole])


def test_more_shards_than_rows_leave_some_with_nothing(tmp_path: Path, script: Path) -> None:
    write_image(tmp_path / "in" / "c.ome.tif", noise_image((20, 30)))
    ended = measure(tmp_path, script, "--shard", "5/16")
    assert ended.code == 0
    assert "nothing is left for 5/16" in ended.log
    assert files_in(tmp_path / "out") == []


# What is refused


def refusal(folder: Path, name: str = "a.ome.tif", **options: object) -> str:
    """Return why segment refuses an image; nothing may be left of it."""
    words = arguments(
        *(folder / "in", folder / "labels"),
        **{"model": folder / "network.pt", "statistics": folder / "out"} | options,
        filePattern=name,
    )
    ended = call(words)
    assert ended.code == 1, ended.log
    assert files_in(folder / "labels") == []
    return ended.errors[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, script: Path) -> Path:
    folder = tmp_path_factory.mktemp("thirds")
    shutil.copy(script, folder / "network.pt")
    write_image(folder / "in" / "a.ome.tif", noise_image((4200, 30)))
    measure_shards(folder, script, 3)
    return folder


@pytest.fixture
def thirds(tmp_path: Path, made: Path) -> Path:
    """A folder with an image of five rows of blocks, measured by three shards."""
    return shutil.copytree(made, tmp_path / "thirds")


def part(folder: Path, text: str) -> Path:
    return folder / "out" / "exactile" / "statistics" / f"a.ome.tif{text}.json"


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ([0], "lack rows 0 to 1 of plane 0: those of shard 0/3 are missing"),
        ([1], "lack rows 2 to 3 of plane 0: those of shard 1/3 are missing"),
        ([2], "lack rows 4 to 4 of plane 0: those of shard 2/3 are missing"),
        ([0, 1], "lack rows 0 to 3 of plane 0: shards from 0/3 to 1/3 are missing"),
        ([0, 1, 2], "holds no statistics of a.ome.tif; measure them with exactile statistics"),
    ],
)
def test_missing_parts_are_named(thirds: Path, missing: list[int], message: str) -> None:
    for index in missing:
        part(thirds, f".{index}-of-3").unlink()
    assert message in refusal(thirds)


def test_a_copy_under_another_shards_name_is_refused(thirds: Path) -> None:
    shutil.copy(part(thirds, ".0-of-3"), part(thirds, ".1-of-3"))
    assert "1-of-3.json: is named as the file of shard 1/3, and holds shard 0/3" in refusal(thirds)


def test_parts_of_two_counts_are_refused(thirds: Path, script: Path) -> None:
    assert measure(thirds, script, "--shard", "1/2").code == 0
    found = refusal(thirds)
    assert "a.ome.tif.0-of-3.json and " in found
    assert "a.ome.tif.1-of-2.json are of another number of shards" in found


def test_parts_of_two_collections_are_refused(thirds: Path, script: Path) -> None:
    write_image(thirds / "in" / "0.ome.tif", noise_image((2000, 30)))
    assert measure(thirds, script, "--shard", "1/3").code == 0
    assert "hold rows 1 to 1 of plane 0 more than once" in refusal(thirds)


def test_parts_of_another_image_are_refused(thirds: Path) -> None:
    write_image(thirds / "in" / "a.ome.tif", noise_image((4200, 30), 1))
    assert "0-of-3.json: belongs to something else: the image differs" in refusal(thirds)


def test_parts_for_another_normalisation_are_refused(thirds: Path) -> None:
    found = refusal(thirds, normalization="minmax")
    assert "0-of-3.json: belongs to something else: the normalisation was " in found
    assert "ZScore" in found
    assert "ScaleRange" in found


def test_parts_of_another_channel_are_refused(tmp_path: Path, script: Path) -> None:
    shutil.copy(script, tmp_path / "network.pt")
    write_image(tmp_path / "in" / "a.ome.tif", noise_image((2, 1, 40, 30)))
    assert measure(tmp_path, script, "--channel", "1").code == 0
    assert "the channels was 1, and is 0" in refusal(tmp_path, channel=0)


def test_parts_of_another_format_are_refused(thirds: Path) -> None:
    path = part(thirds, ".1-of-3")
    rewrite(path, format=2)
    assert "1-of-3.json: is of format 2, and this version of exactile reads 1" in refusal(thirds)


def rewrite(path: Path, **values: Any) -> None:
    """Write the file with other values, and a digest that is right."""
    record = json.loads(path.read_text()) | values
    del record["sha256"]
    text = json.dumps(record, sort_keys=True)
    path.write_text(json.dumps(record | {"sha256": hashlib.sha256(text.encode()).hexdigest()}))


def rewrite_planes(path: Path, **values: Any) -> None:
    planes = json.loads(path.read_text())["planes"]
    rewrite(path, planes=[plane | values for plane in planes])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_text(path.read_text().replace("[[", "[[1", 1)),
        lambda path: path.write_text("[]"),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: rewrite(path, planes=[]),
        lambda path: rewrite(path, planes=[{}]),
        lambda path: rewrite_planes(path, plane=1),
        lambda path: rewrite_planes(path, passes=[[[1, 2]]]),
        lambda path: rewrite_planes(path, passes=[[[1, 2, 0.5]]]),
        lambda path: rewrite_planes(path, passes=[7]),
    ],
)
def test_a_damaged_part_is_named(thirds: Path, damage: Any) -> None:
    damage(part(thirds, ".1-of-3"))
    assert "1-of-3.json: is damaged, or no file of statistics" in refusal(thirds)


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [{"step": "Sigmoid", "numbers": {}}],
        [{"step": "Standardise", "numbers": {"mean": [1], "deviation": [1]}}],
        [{"step": "Standardize", "numbers": {"mean": [1], "deviation": ["x"]}}],
        [{"step": "Standardize", "numbers": {"mean": [1, 2], "deviation": [1, 2]}}],
        [{"step": "Standardize", "numbers": {"mean": [1], "deviation": [float("nan")]}}],
    ],
)
def test_steps_that_are_not_those_asked_for_are_refused(
    thirds: Path, script: Path, steps: Any
) -> None:
    assert measure(thirds, script).code == 0
    rewrite_planes(part(thirds, ""), steps=steps)
    assert "a.ome.tif.json: is damaged" in refusal(thirds)


def test_a_folder_that_is_not_there_is_refused(thirds: Path) -> None:
    words = arguments(thirds / "in", thirds / "labels", statistics=thirds / "nowhere")
    ended = call(words)
    assert ended.code == 2
    assert "nowhere is not a folder; give the --outDir of exactile statistics" in ended.errors[0]


def test_what_was_measured_for_all_of_an_image_is_taken_before_parts(
    thirds: Path, script: Path
) -> None:
    assert measure(thirds, script).code == 0
    part(thirds, ".1-of-3").unlink()
    words = arguments(
        *(thirds / "in", thirds / "labels"), model=script, statistics=thirds / "out", tileSize=512
    )
    assert call(words).code == 0


# Images that fail


def test_an_image_that_cannot_be_read_fails_in_one_shard(tmp_path: Path, script: Path) -> None:
    write_collection(tmp_path / "in")
    (tmp_path / "in" / "b.ome.tif").write_bytes(b"no image")
    ended = [measure(tmp_path, script, "--shard", f"{index}/3") for index in range(3)]
    assert sorted(each.code for each in ended) == [0, 0, 1]
    (failed,) = [each for each in ended if each.code]
    assert "b.ome.tif is not a TIFF image" in failed.errors[0]
    assert not [name for name in files_in(tmp_path / "out") if "b.ome.tif" in name]


@pytest.mark.parametrize("shard", ["0/1", "1/3"])
def test_pixels_that_are_not_finite_leave_no_statistics(
    tmp_path: Path, script: Path, shard: str
) -> None:
    pixels = noise_image((3000, 30), dtype=np.float32)
    pixels[1500, 7] = np.nan
    write_image(tmp_path / "in" / "a.ome.tif", pixels)
    ended = measure(tmp_path, script, "--shard", shard)
    assert ended.code == 1
    assert "the pixel at y=1500, x=7" in ended.errors[0]
    assert files_in(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("shard", "message"),
    [("3/3", "'3/3' is out of range: the 3 shards"), ("x", "'x' is not a shard")],
)
def test_a_shard_that_does_not_exist_is_refused(
    tmp_path: Path, script: Path, shard: str, message: str
) -> None:
    write_image(tmp_path / "in" / "a.ome.tif", noise_image((20, 30)))
    ended = measure(tmp_path, script, "--shard", shard)
    assert ended.code == 2
    assert f"--shard {message}" in ended.errors[0]
    assert not (tmp_path / "out").exists()
