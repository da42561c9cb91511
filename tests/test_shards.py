"""Work that is split over workers, and put together again: the same bytes as from one worker."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from conftest import noise_image, write_image, write_random_model
from hypothesis import given
from hypothesis import strategies as st
from program import Ended, arguments, call, files_in, finish, start

from exactile.assembly import copy_part
from exactile.bit_stability import BitStability
from exactile.devices import choose_device, name_device
from exactile.errors import CollectionError, OutputError
from exactile.forward import ForwardPass
from exactile.images import Plane, open_source, read_sizes
from exactile.images.digest import FileDigest
from exactile.parts import StoredPart
from exactile.shard import Shard
from exactile.sharding import Extent, owner, split
from exactile.stored_json import sealed

NAME = "image.ome.tif"
TILE = 528
IMAGES = {
    "a b.ome.tif": (2, 1, 2, 1100, 300),
    "é.ome.tiff": (2300, 260),
    "small.ome.tif": (40, 30),
}
"""Twelve rows of tiles in all: 8, 1 and 3."""

LINE = re.compile(r"file: (.+); corr: 0; position: \((\d+), (\d+)\); grid: \(0, \d+\);")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for seed, (name, shape) in enumerate(IMAGES.items()):
        write_image(folder / name, noise_image(shape, seed))
    return folder


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, images: Path, small_model: Path
) -> Callable[..., Path]:
    """Give the outDir of a run without shards."""
    made: dict[str, Path] = {}

    def out_dir(**options: object) -> Path:
        if str(options) not in made:
            made[str(options)] = out = tmp_path_factory.mktemp("whole")
            ended = segment(images, out, small_model, **options)
            assert ended.code == 0, ended.log
        return made[str(options)]

    return out_dir


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, images: Path, small_model: Path) -> Path:
    """The parts of three shards; to be copied, never changed."""
    parts = tmp_path_factory.mktemp("three")
    run_shards(images, parts, small_model, 3)
    return parts


@pytest.fixture
def parts(tmp_path: Path, three: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "parts"))


def segment(images: Path, out: Path, model: Path, **options: object) -> Ended:
    options = {"model": model, "tileSize": TILE, "filePattern": r".*\.ome\.tiff?"} | options
    return call(arguments(images, out, **options))


def run_shards(images: Path, parts: Path, model: Path, count: int, **options: object) -> None:
    for index in range(count):
        ended = segment(images, parts, model, shard=f"{index}/{count}", **options)
        assert ended.code == 0, ended.log


def assemble(parts: Path, out: Path) -> Ended:
    return call(["assemble", "--inpDir", str(parts), "--outDir", str(out)])


def tiffs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.tif*")}


def refused(parts: Path) -> str:
    """Assemble, see that nothing was written, and return the one message."""
    out = parts.parent / "refused"
    ended = assemble(parts, out)
    assert ended.code == 1
    assert len(ended.errors) == 1
    assert not out.exists()
    return ended.errors[0]


# The split


EXTENTS = st.lists(
    st.builds(Extent, st.just(""), st.integers(1, 3), st.integers(1, 3), st.integers(1, 6)),
    min_size=1,
    max_size=6,
).map(lambda all_: [Extent(f"{i}.ome.tif", e.size_t, e.size_z, e.rows) for i, e in enumerate(all_)])


@given(EXTENTS, st.integers(1, 400))
def test_every_row_of_every_plane_is_in_one_part_and_shards_have_contiguous_ranges(
    extents: list[Extent], count: int
) -> None:
    images = split(extents, count)
    rows = [
        (index, part.plane, row, part.shard)
        for index, parts in enumerate(images)
        for part in parts
        for row in range(part.rows.start, part.rows.stop)
    ]
    expected = [
        (index, Plane(t, z), row)
        for index, e in enumerate(extents)
        for t in range(e.size_t)
        for z in range(e.size_z)
        for row in range(e.rows)
    ]
    assert [row[:3] for row in rows] == expected
    assert [row[3] for row in rows] == [
        index for index in range(count) for _ in Shard(index, count).part(len(rows))
    ]


@given(st.integers(1, 300), st.integers(1, 400))
def test_a_row_belongs_to_the_shard_whose_part_has_it(total: int, count: int) -> None:
    owners = [owner(row, total, count) for row in range(total)]
    assert owners == [i for i in range(count) for _ in Shard(i, count).part(total)]


def test_parts_of_two_images_never_have_one_name() -> None:
    with pytest.raises(CollectionError, match=r"a\.ome\.tif and of a_t00000_z00000\.ome"):
        split([Extent("a.ome.tif", 1, 2, 1), Extent("a_t00000_z00000.ome.tif", 1, 1, 1)], 2)


def test_sizes_are_those_of_the_source(images: Path) -> None:
    for path in images.iterdir():
        with open_source(path) as source:
            assert read_sizes(path) == (source.size_t, source.size_z, *source.shape)


# The same bytes


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16])
def test_assembled_shards_have_the_bytes_of_one_run(
    tmp_path: Path, images: Path, small_model: Path, whole: Callable[..., Path], count: int
) -> None:
    """Sixteen are more than there are rows of tiles."""
    run_shards(images, tmp_path / "parts", small_model, count)
    ended = assemble(tmp_path / "parts", tmp_path / "out")
    assert ended.code == 0, ended.log
    assert tiffs(tmp_path / "out") == tiffs(whole())
    assert set(tiffs(tmp_path / "out")) == set(IMAGES)
    assert not (tmp_path / "out" / ".exactile").exists()
    assert not list((tmp_path / "parts").rglob("*.partial"))
    if count > 12:
        ended = segment(images, tmp_path / "parts", small_model, shard=f"{count - 1}/{count}")
        assert "has nothing to do: there are only 12 rows" in ended.log


def test_probabilities_too(
    tmp_path: Path, images: Path, small_model: Path, whole: Callable[..., Path]
) -> None:
    options = {"outputType": "probabilities"}
    run_shards(images, tmp_path / "parts", small_model, 4, **options)
    assert assemble(tmp_path / "parts", tmp_path / "out").code == 0
    assert tiffs(tmp_path / "out") == tiffs(whole(**options))


@pytest.mark.parametrize("tile", [1070, 2100])
def test_boundaries_need_not_lie_on_zones(
    tmp_path: Path, images: Path, small_model: Path, whole: Callable[..., Path], tile: int
) -> None:
    """A zone of 2048 px is made by both workers at its seam, in the window of the whole."""
    run_shards(images, tmp_path / "parts", small_model, 7, tileSize=tile)
    assert assemble(tmp_path / "parts", tmp_path / "out").code == 0
    assert tiffs(tmp_path / "out") == tiffs(whole(tileSize=tile))


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The pixels of every window that goes through the network."""
    seen: list[bytes] = []
    begin = ForwardPass.start

    def start(self: ForwardPass, pixels: np.ndarray, *rest: object) -> object:
        seen.append(pixels.tobytes())
        return begin(self, pixels, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ForwardPass, "start", start)
    # How many zones are compared on their pixels, and in which windows, is each run's own.
    monkeypatch.setattr("exactile.segmentation.compare_real_pixels", lambda *_: None)
    return seen


@pytest.mark.parametrize("tile", [528, 2100])
def test_shards_run_the_windows_of_the_whole_and_no_others(
    tmp_path: Path, small_model: Path, windows: list[bytes], tile: int
) -> None:
    """So their bits are those of one run even where another window would give others."""
    write_image(tmp_path / "in" / NAME, noise_image((3000, 100)))
    assert segment(tmp_path / "in", tmp_path / "out", small_model, tileSize=tile).code == 0
    of_the_whole = set(windows)
    windows.clear()
    run_shards(tmp_path / "in", tmp_path / "parts", small_model, 3, tileSize=tile)
    assert set(windows) == of_the_whole


@pytest.mark.parametrize("stable", [True, False])
def test_the_plan_is_made_for_the_part_where_windows_are_bit_stable(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch, stable: bool
) -> None:
    def found(*_: object) -> BitStability:
        return BitStability(stable, 1, 0, 0.0, 0, (64, 64), (80, 80))

    monkeypatch.setattr("exactile.job.check_bit_stability", found)
    monkeypatch.setattr("exactile.planning.SMALL_PIXELS", 0)
    write_image(tmp_path / "in" / NAME, noise_image((3000, 200)))
    options = {"tileSize": "auto", "memory": "4GB"}
    assert segment(tmp_path / "in", tmp_path / "out", small_model, **options).code == 0
    run_shards(tmp_path / "in", tmp_path / "parts", small_model, 3, **options)
    whole = certificate(tmp_path / "out", NAME)["plan"]
    parts = [certificate(tmp_path / "parts", name)["plan"] for name in tiffs(tmp_path / "parts")]
    assert len(parts) == 3
    assert whole["windows"] == 1
    assert all((part["window"][0] < 2000) == stable for part in parts)
    assert all((part == whole | {"zones_run": 1}) != stable for part in parts)
    assert assemble(tmp_path / "parts", tmp_path / "assembled").code == 0
    assert tiffs(tmp_path / "assembled") == tiffs(tmp_path / "out")


# Killed, repeated, put elsewhere


def test_finished_parts_are_not_made_again(
    images: Path, parts: Path, small_model: Path, windows: list[bytes]
) -> None:
    ended = segment(images, parts, small_model, shard="1/3")
    assert ended.code == 0
    assert not windows
    assert ended.log.count("already done") == 2


def test_parts_of_another_split_are_not_made_again_where_their_rows_are_the_same(
    images: Path, parts: Path, small_model: Path, windows: list[bytes]
) -> None:
    assert segment(images, parts, small_model, shard="0/6").code == 0
    assert not windows


def test_a_killed_shard_goes_on_and_leaves_no_record_until_it_is_done(
    tmp_path: Path, small_model: Path, windows: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five rows of tiles the shard has three, of four zones each."""
    write_image(tmp_path / "in" / NAME, noise_image((5000, 60)))
    options = {"shard": "0/2", "tileSize": 128}
    run_shards(tmp_path / "in", tmp_path / "expected", small_model, 2, tileSize=128)
    windows.clear()
    parts = tmp_path / "parts"
    with monkeypatch.context() as patch:
        begin = ForwardPass.start

        def stumble(self: ForwardPass, *rest: object) -> object:
            if len(windows) == 10:
                raise RuntimeError("the network stumbles")
            return begin(self, *rest)  # type: ignore[arg-type]

        patch.setattr(ForwardPass, "start", stumble)
        ended = segment(tmp_path / "in", parts, small_model, **options)
    assert ended.code == 1
    assert "the same command goes on from what is stored" in ended.errors[0]
    assert not list(parts.glob("exactile/shards/*"))
    windows.clear()
    assert segment(tmp_path / "in", parts, small_model, **options).code == 0
    assert 0 < len(windows) <= 8
    assert set(files_in(parts)) < set(files_in(tmp_path / "expected"))
    assert tiffs(parts).items() < tiffs(tmp_path / "expected").items()


@pytest.mark.slow
def test_workers_at_the_same_time_share_a_folder_and_one_may_be_killed(
    tmp_path: Path, images: Path, small_model: Path, whole: Callable[..., Path]
) -> None:
    options = {"model": small_model, "tileSize": TILE, "filePattern": r".*\.ome\.tiff?"}
    words = [
        arguments(images, tmp_path / "parts", shard=f"{index}/3", **options) for index in range(3)
    ]
    workers = [start(each) for each in words]
    while workers[0].poll() is None and not list((tmp_path / "parts").glob(".exactile/*/page-*")):
        time.sleep(0.01)
    workers[0].kill()
    assert [finish(worker).code for worker in workers] == [-signal.SIGKILL, 0, 0]
    assert "shard 0/3 left no record" in refused(tmp_path / "parts")
    assert finish(start(words[0])).code == 0
    assert assemble(tmp_path / "parts", tmp_path / "out").code == 0
    assert tiffs(tmp_path / "out") == tiffs(whole())
    assert not (tmp_path / "parts" / ".exactile").exists()


def test_a_shard_whose_image_is_damaged_names_it_and_leaves_no_record(
    tmp_path: Path, images: Path, small_model: Path
) -> None:
    """It counts as one row, the last of ten."""
    shutil.copytree(images, tmp_path / "in")
    (tmp_path / "in" / "é.ome.tiff").write_bytes(b"no TIFF")
    codes = [
        segment(tmp_path / "in", tmp_path / "parts", small_model, shard=f"{i}/3") for i in range(3)
    ]
    assert [ended.code for ended in codes] == [0, 0, 1]
    assert "é.ome.tiff is not a TIFF image" in codes[2].errors[0]
    assert "shard 2/3 left no record" in refused(tmp_path / "parts")


def test_parts_may_come_from_folders_of_their_own(
    tmp_path: Path, images: Path, small_model: Path, whole: Callable[..., Path]
) -> None:
    for index in range(3):
        own = tmp_path / f"own{index}"
        assert segment(images, own, small_model, shard=f"{index}/3").code == 0
        shutil.copytree(own, tmp_path / "parts", dirs_exist_ok=True)
    assert assemble(tmp_path / "parts", tmp_path / "out").code == 0
    assert tiffs(tmp_path / "out") == tiffs(whole())


def test_images_of_a_workflow_step_lie_in_a_folder_of_that_name(
    tmp_path: Path, parts: Path, whole: Callable[..., Path]
) -> None:
    (parts / "images").mkdir()
    for path in parts.glob("*.tif*"):
        path.rename(parts / "images" / path.name)
    assert assemble(parts, tmp_path / "out").code == 0
    shutil.move(parts / "certificates", parts / "images")
    shutil.move(parts / "exactile", parts / "images")
    assert assemble(parts, tmp_path / "again").code == 0
    assert tiffs(tmp_path / "out") == tiffs(tmp_path / "again") == tiffs(whole())


def test_an_image_that_is_put_together_is_not_done_again_by_anyone(
    tmp_path: Path, images: Path, parts: Path, small_model: Path, windows: list[bytes]
) -> None:
    out = tmp_path / "out"
    assert assemble(parts, out).code == 0
    assert assemble(parts, out).log.count("already done") == 3
    assert segment(images, out, small_model).log.count("already done") == 3
    assert not windows


def test_a_killed_assembly_goes_on(
    tmp_path: Path, parts: Path, whole: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []

    def counting(stored: StoredPart, *rest: object) -> None:
        if len(copied) == 3:
            raise OutputError("no room")
        copied.append(stored.path.name)
        copy_part(stored, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("exactile.assembly.copy_part", counting)
    ended = assemble(parts, tmp_path / "out")
    assert ended.code == 1
    copied.append("a fourth, so that none stumbles any more")
    assert assemble(parts, tmp_path / "out").code == 0
    assert sorted(copied[:3] + copied[4:]) == sorted(tiffs(parts))
    assert tiffs(tmp_path / "out") == tiffs(whole())


# What a shard leaves


def test_only_parts_lie_at_the_top_and_the_vector_says_where(parts: Path) -> None:
    names = {path.name for path in parts.iterdir() if path.is_file()}
    assert names == {
        "a b_t00000_z00000_y00000_x00000.ome.tif",
        "a b_t00000_z00001_y00000_x00000.ome.tif",
        "a b_t00001_z00000_y00000_x00000.ome.tif",
        "a b_t00001_z00001_y00000_x00000.ome.tif",
        "small_y00000_x00000.ome.tif",
        "é_y00000_x00000.ome.tiff",
    }
    assert (parts / "exactile/vectors/é.ome.tiff/img-global-positions-0.txt").read_text() == (
        "file: é_y00000_x00000.ome.tiff; corr: 0; position: (0, 0); grid: (0, 0);\n"
    )
    vectors = sorted(path.name for path in (parts / "exactile/vectors/a b.ome.tif").iterdir())
    assert vectors == [f"img-global-positions-{plane}.txt" for plane in range(4)]


def test_parts_composed_by_the_vector_are_the_image(
    tmp_path: Path, images: Path, small_model: Path, whole: Callable[..., Path]
) -> None:
    run_shards(images, tmp_path / "parts", small_model, 16)
    name = "é.ome.tiff"
    vector = tmp_path / "parts/exactile/vectors" / name / "img-global-positions-0.txt"
    lines = [LINE.fullmatch(line) for line in vector.read_text().splitlines()]
    assert len(lines) == 3
    composed = np.zeros((2300, 260), np.uint8)
    for match in lines:
        assert match
        file, x, y = match[1], int(match[2]), int(match[3])
        pixels = tifffile.imread(tmp_path / "parts" / file)
        composed[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    assert np.array_equal(composed, tifffile.imread(whole() / name))


def test_the_certificate_of_the_whole_is_that_of_one_run_and_names_the_parts(
    tmp_path: Path, parts: Path, whole: Callable[..., Path]
) -> None:
    assert assemble(parts, tmp_path / "out").code == 0
    for name in IMAGES:
        made, expected = certificate(tmp_path / "out", name), certificate(whole(), name)
        for fact in ("output", "file", "identity", "input", "model", "bit_stability"):
            assert made[fact] == expected[fact], fact
        # How many zones were compared on the image's pixels is each part's own.
        assert made["claim"].split(" In ")[0] == expected["claim"].split(" In ")[0]
        assert made["plan"]["zones_run"] == expected["plan"]["zones_run"]
        assert made["parts"]
        for part in made["parts"]:
            assert FileDigest.of(parts / part["name"]).sha256 == part["sha256"]


def test_the_whole_claims_what_its_weakest_part_does(tmp_path: Path, parts: Path) -> None:
    name = "a b_t00001_z00000_y00000_x00000.ome.tif"
    content = certificate(parts, name)
    content["bit_stability"] |= {"equal": False, "different": 7, "largest_difference": 1e-6}
    content["verification"] = {
        "zones": 2, "compared": 90, "different": 1, "largest_difference": 1e-7
    }  # fmt: skip
    write_certificate(parts, name, content)
    assert assemble(parts, tmp_path / "out").code == 0
    made = certificate(tmp_path / "out", "a b.ome.tif")
    assert made["bit_stability"] == content["bit_stability"]
    assert made["verification"] == content["verification"]
    assert "up to rounding" in made["claim"]
    assert "2 zones were run again" in made["claim"]
    assert "bit for bit" in certificate(tmp_path / "out", "é.ome.tiff")["claim"]


def test_parts_in_windows_that_are_not_bit_stable_and_differ_are_warned_of(
    tmp_path: Path, parts: Path
) -> None:
    name = "a b_t00001_z00000_y00000_x00000.ome.tif"
    content = certificate(parts, name)
    content["bit_stability"]["equal"] = False
    write_certificate(parts, name, content)
    assert "last bits may differ" not in assemble(parts, tmp_path / "same windows").log
    content["plan"]["window"] = [64, 64]
    write_certificate(parts, name, content)
    ended = assemble(parts, tmp_path / "out")
    assert ended.code == 0
    assert "a b.ome.tif: its parts were run in windows of other sizes" in ended.log


# What is refused


@pytest.mark.parametrize("blank", ["--inpDir", "--outDir"])
def test_a_blank_folder_counts_as_absent_not_as_the_current_one(
    tmp_path: Path, parts: Path, monkeypatch: pytest.MonkeyPatch, blank: str
) -> None:
    monkeypatch.chdir(parts if blank == "--inpDir" else tmp_path)
    before = files_in(tmp_path)
    folders = {"--inpDir": str(parts), "--outDir": str(tmp_path / "out"), blank: ""}
    ended = call(["assemble", *(word for pair in folders.items() for word in pair)])
    assert (ended.code, ended.errors) == (2, [f"{blank} is missing"])
    assert files_in(tmp_path) == before


def test_a_missing_part_is_named(parts: Path) -> None:
    (parts / "small_y00000_x00000.ome.tif").unlink()
    assert "missing: small_y00000_x00000.ome.tif; copy" in refused(parts)


def test_a_missing_certificate_is_named(parts: Path) -> None:
    (parts / "certificates" / "small_y00000_x00000.ome.tif.json").unlink()
    assert "small_y00000_x00000.ome.tif: its certificate is missing" in refused(parts)


def test_a_missing_shard_is_named(parts: Path) -> None:
    (parts / "exactile/shards/00001-of-00003.json").unlink()
    assert "shard 1/3 left no record" in refused(parts)


def test_a_part_of_a_shard_that_is_not_of_this_run_is_named(
    parts: Path, images: Path, small_model: Path
) -> None:
    shutil.copy(parts / "small_y00000_x00000.ome.tif", parts / "copy.ome.tif")
    assert f"foreign or duplicate: {parts / 'copy.ome.tif'}" in refused(parts)


def test_a_part_under_the_name_of_another_is_named(parts: Path) -> None:
    one, other = (
        f"a b_t00000_z0000{z}_y00000_x00000.ome.tif" for z in range(2)
    )  # fmt: skip
    shutil.copy(parts / one, parts / other)
    shutil.copy(parts / f"certificates/{one}.json", parts / f"certificates/{other}.json")
    assert f"is the certificate of {one}, not of {other}" in refused(parts)


def test_shards_of_two_splits_are_refused(parts: Path, images: Path, small_model: Path) -> None:
    assert segment(images, parts, small_model, shard="0/2").code == 0
    assert "of two splits, into 2 and 3 shards" in refused(parts)


def test_shards_of_two_collections_are_refused(
    tmp_path: Path, parts: Path, images: Path, small_model: Path
) -> None:
    shutil.copytree(images, tmp_path / "other")
    write_image(tmp_path / "other" / "new.ome.tif", noise_image((20, 20)))
    assert segment(tmp_path / "other", parts, small_model, shard="1/3").code == 0
    assert "are of two collections" in refused(parts)


@pytest.mark.parametrize(
    ("option", "value", "fact"),
    [
        ("outputType", "probabilities", "--outputType was labels, and is probabilities"),
        ("tileSize", 1070, "--tileSize was 528, and is 1070"),
        ("precision", "bfloat16", "--precision was float32, and is bfloat16"),
    ],
)
def test_parts_made_with_other_settings_are_named(
    parts: Path, images: Path, small_model: Path, option: str, value: object, fact: str
) -> None:
    assert segment(images, parts, small_model, shard="1/3", **{option: value}).code == 0
    message = refused(parts)
    assert "is foreign, it does not go with a b_t00000_z00000_y00000_x00000.ome.tif" in message
    assert fact in message


def test_parts_of_another_model_are_named(tmp_path: Path, parts: Path, images: Path) -> None:
    write_random_model(tmp_path / "model", seed=1, depth=1, convolutions=1, base_width=2)
    assert segment(images, parts, tmp_path / "model", shard="2/3").code == 0
    assert "is foreign" in (message := refused(parts))
    assert "the model differs" in message


def test_parts_of_an_image_that_was_replaced_are_named(tmp_path: Path, small_model: Path) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((2100, 50)))
    parts = tmp_path / "parts"
    assert segment(tmp_path / "in", parts, small_model, shard="0/2").code == 0
    write_image(tmp_path / "in" / NAME, noise_image((2100, 50), seed=1))
    assert segment(tmp_path / "in", parts, small_model, shard="1/2").code == 0
    message = refused(parts)
    assert message.startswith("image_y00002_x00000.ome.tif is foreign")
    assert "the image differs" in message


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([1, 3], "image_y00000_x00000.ome.tif and image_y00002_x00000.ome.tif are duplicates"),
        ([3, 4], "missing: row 2 of the 3 rows of tiles of plane T=0 Z=0 of image.ome.tif"),
    ],
)
def test_rows_are_covered_exactly_once(
    tmp_path: Path, small_model: Path, rows: list[int], message: str
) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((2100, 50)))
    run_shards(tmp_path / "in", tmp_path / "parts", small_model, 2)
    name = "image_y00002_x00000.ome.tif"
    content = certificate(tmp_path / "parts", name)
    content["part"]["rows"] = rows
    content["identity"]["the part"] = f"rows {rows[0]} to {rows[1]} of tiles of plane T=0 Z=0"
    write_certificate(tmp_path / "parts", name, content)
    assert message in refused(tmp_path / "parts")


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        ({"rows": "ab"}, "part.rows: Input should be a valid array"),
        ({"rows": [0, 2**60]}, "part: lies outside its image"),
        ({"t": 7}, "part: lies outside its image"),
        ({"output": "../elsewhere.ome.tif"}, "part.output: is no file's name"),
        ({"rows": [0, 2]}, "contradicts itself"),
    ],
    ids=str,
)
def test_a_certificate_of_what_cannot_be_is_named(
    parts: Path, fact: dict[str, object], said: str
) -> None:
    name = "small_y00000_x00000.ome.tif"
    content = certificate(parts, name)
    content["part"] |= fact
    write_certificate(parts, name, content)
    message = refused(parts)
    assert f"{name}.json: " in message
    assert said in message


def test_a_certificate_that_was_changed_by_hand_is_named(parts: Path) -> None:
    path = parts / "certificates" / "small_y00000_x00000.ome.tif.json"
    path.write_text(path.read_text().replace('"dtype"', '"Dtype"', 1))
    assert f"{path}: is not the certificate of a part (its digest is missing" in refused(parts)


def test_a_certificate_that_lacks_a_fact_of_the_whole_fails_its_image(
    tmp_path: Path, parts: Path
) -> None:
    name = "small_y00000_x00000.ome.tif"
    content = certificate(parts, name)
    del content["bit_stability"]
    write_certificate(parts, name, content)
    ended = assemble(parts, tmp_path / "out")
    assert ended.code == 1
    assert "small.ome.tif: the certificates of its parts were changed" in ended.errors[0]
    assert "small.ome.tif" not in tiffs(tmp_path / "out")


def test_a_part_of_other_versions_is_named(parts: Path) -> None:
    for path in parts.glob("certificates/*"):
        content = json.loads(path.read_text())
        content["identity"]["the version of imagecodecs"] = "1.2"
        path.write_text(json.dumps(sealed(content)))
    assert "the parts were made with imagecodecs 1.2, and here is" in refused(parts)


def test_a_damaged_part_fails_its_image_alone(
    tmp_path: Path, parts: Path, whole: Callable[..., Path]
) -> None:
    path = parts / "é_y00000_x00000.ome.tiff"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    ended = assemble(parts, tmp_path / "out")
    assert ended.code == 1
    (message,) = ended.errors
    assert f"é.ome.tiff: {path}: is damaged" in message
    expected = tiffs(whole())
    del expected["é.ome.tiff"]
    assert tiffs(tmp_path / "out") == expected


def test_a_damaged_record_is_named(parts: Path) -> None:
    (parts / "exactile/shards/00001-of-00003.json").write_text("{}")
    assert "00001-of-00003.json: is not the record of a shard" in refused(parts)


def test_folders_without_parts_are_refused(tmp_path: Path, images: Path) -> None:
    assert "is no folder" in refused(tmp_path / "missing")
    assert "holds no parts" in refused(images)


def test_images_are_not_written_among_the_parts(parts: Path) -> None:
    before = files_in(parts)
    ended = assemble(parts, parts)
    assert ended.code == 1
    assert "is the folder of the parts" in ended.errors[0]
    assert files_in(parts) == before


def test_a_shard_out_of_range_is_refused(tmp_path: Path, images: Path, small_model: Path) -> None:
    ended = segment(images, tmp_path / "out", small_model, shard="3/3")
    assert ended.code == 2
    assert "--shard '3/3' is out of range" in ended.errors[0]
    assert not (tmp_path / "out").exists()


def test_processes_of_torchrun_take_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "some GPU")
    devices = {}
    for rank in ("", "0", "1", "2"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        devices[rank] = choose_device("auto").index
        assert choose_device("cuda:1").index == 1
    assert devices == {"": 0, "0": 0, "1": 1, "2": 0}
    names = {name_device(torch.device("cuda", index)) for index in range(2)}
    assert names == {"cuda (some GPU)"}  # parts made on both go together


def test_the_environment_of_a_job_says_which_shard(
    tmp_path: Path, images: Path, small_model: Path, three: Path
) -> None:
    options = {"model": small_model, "tileSize": TILE, "filePattern": r".*\.ome\.tiff?"}
    words = arguments(images, tmp_path / "out", **options)
    assert call(words, JOB_COMPLETION_INDEX="2", JOB_COMPLETION_COUNT="3").code == 0
    record = Path("exactile/shards/00002-of-00003.json")
    assert (tmp_path / "out" / record).read_bytes() == (three / record).read_bytes()


def certificate(folder: Path, name: str) -> dict:
    content: dict = json.loads((folder / "certificates" / f"{name}.json").read_text())
    return content


def write_certificate(folder: Path, name: str, content: dict) -> None:
    (folder / "certificates" / f"{name}.json").write_text(json.dumps(sealed(content)))
