"""Shards that write the chunks of one OME-Zarr: put together, the folder that one run writes."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import zarr
from conftest import noise_image, write_image
from program import Ended, arguments, call, finish, start

from exactile.assembly import copy_part
from exactile.errors import OutputError
from exactile.forward import ForwardPass
from exactile.images.chunk_files import ChunkFiles
from exactile.images.digest import FileDigest
from exactile.parts import StoredPart
from exactile.shard_files import CHUNKS
from exactile.stored_json import sealed

IMAGES = {"a b.ome.tif": (2, 1050, 60), "é.ome.tif": (2300, 1060)}
"""Seven rows of chunks in all: 4 and 3, those of the second image two chunks wide."""

STACK, WIDE = "a b.ome.zarr", "é.ome.zarr"
LAST = "é_y00001_x00000.ome.zarr"
"""What the last of three shards has: rows 1 and 2 of the second image."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for seed, (name, shape) in enumerate(IMAGES.items()):
        write_image(folder / name, noise_image(shape, seed))
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, images: Path, small_model: Path) -> Path:
    """The outDir of a run without shards."""
    out = tmp_path_factory.mktemp("whole")
    assert segment(images, out, small_model).code == 0
    return out


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, images: Path, small_model: Path) -> Path:
    """What three shards left; to be copied, never changed."""
    out = tmp_path_factory.mktemp("three")
    run_shards(images, out, small_model, 3)
    return out


@pytest.fixture
def parts(tmp_path: Path, three: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "parts"))


def segment(images: Path, out: Path, model: Path, **options: object) -> Ended:
    options = {"model": model, "tileSize": 1040} | options
    return call(arguments(images, out, **options), POLUS_IMG_EXT=".ome.zarr")


def run_shards(images: Path, out: Path, model: Path, count: int, **options: object) -> None:
    for index in range(count):
        ended = segment(images, out, model, shard=f"{index}/{count}", **options)
        assert ended.code == 0, ended.log


def assemble(parts: Path, out: Path) -> Ended:
    return call(["assemble", "--inpDir", str(parts), "--outDir", str(out)])


def zarrs(folder: Path) -> dict[str, FileDigest]:
    return {path.name: FileDigest.of(path) for path in folder.glob("*.zarr")}


def refused(parts: Path) -> str:
    """Assemble, see that nothing was written, and return the one message."""
    out = parts.parent / "refused"
    ended = assemble(parts, out)
    assert ended.code == 1
    assert len(ended.errors) == 1
    assert not out.exists()
    return ended.errors[0]


def chunk(parts: Path, row: int, column: int = 0) -> Path:
    """A chunk of the second image."""
    return parts / CHUNKS / f"{WIDE}.partial" / "0/0/0/0" / str(row) / str(column)


def certificate(folder: Path, name: str) -> dict:
    content: dict = json.loads((folder / "certificates" / f"{name}.json").read_text())
    return content


# The same bytes


@pytest.mark.parametrize("count", [1, 2, 9])
def test_assembled_shards_are_the_folder_of_one_run(
    tmp_path: Path, images: Path, small_model: Path, whole: Path, count: int
) -> None:
    """Nine are more than there are rows of chunks."""
    run_shards(images, tmp_path / "parts", small_model, count)
    ended = assemble(tmp_path / "parts", tmp_path / "out")
    assert ended.code == 0, ended.log
    assert zarrs(tmp_path / "out") == zarrs(whole)
    assert set(zarrs(tmp_path / "out")) == {STACK, WIDE}
    assert not (tmp_path / "out" / ".exactile").exists()
    assert not (tmp_path / "parts" / ".exactile").exists()


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 7, 16])
def test_other_numbers_of_shards_too(
    tmp_path: Path, images: Path, small_model: Path, whole: Path, count: int
) -> None:
    run_shards(images, tmp_path / "out", small_model, count)
    assert assemble(tmp_path / "out", tmp_path / "out").code == 0
    assert zarrs(tmp_path / "out") == zarrs(whole)


def test_several_channels_and_version_0_5_too(
    tmp_path: Path, images: Path, small_model: Path
) -> None:
    options = {"outputType": "probabilities", "zarrVersion": "0.5", "filePattern": "é.*"}
    assert segment(images, tmp_path / "whole", small_model, **options).code == 0
    run_shards(images, tmp_path / "parts", small_model, 2, **options)
    assert assemble(tmp_path / "parts", tmp_path / "out").code == 0
    assert zarrs(tmp_path / "out") == zarrs(tmp_path / "whole")
    group = zarr.open_group(tmp_path / "out" / WIDE, mode="r")
    assert group.metadata.zarr_format == 3
    assert group["0"].shape == (1, 2, 1, 2300, 1060)


def test_a_folder_with_tiff_and_zarr_is_shared_too(
    tmp_path: Path, images: Path, small_model: Path
) -> None:
    folder = tmp_path / "in"
    write_image(folder / "a.ome.tif", noise_image((1100, 60)))
    assert segment(images, tmp_path / "made", small_model, filePattern="é.*").code == 0
    shutil.move(tmp_path / "made" / WIDE, folder / WIDE)
    names = {"a.ome.tif", WIDE}
    options = {"model": small_model, "tileSize": 1040}
    assert call(arguments(folder, tmp_path / "whole", **options)).code == 0
    for index in range(2):
        words = arguments(folder, tmp_path / "parts", shard=f"{index}/2", **options)
        assert call(words).code == 0
    ended = assemble(tmp_path / "parts", tmp_path / "out")
    assert ended.code == 0, ended.log
    for name in names:
        assert FileDigest.of(tmp_path / "out" / name) == FileDigest.of(tmp_path / "whole" / name)


def test_shards_fill_one_store_and_no_chunk_is_written_by_two(
    tmp_path: Path, images: Path, small_model: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    append = ChunkFiles.append

    def watched(self: ChunkFiles, tile: int, data: bytes) -> object:
        written.append(self._path_of(tile))
        return append(self, tile, data)

    monkeypatch.setattr(ChunkFiles, "append", watched)
    out = tmp_path / "out"
    run_shards(images, out, small_model, 3)
    assert len(set(written)) == len(written) == 10
    for name in (STACK, WIDE):
        store = out / CHUNKS / f"{name}.partial"
        made = {path.relative_to(store) for path in written if path.is_relative_to(store)}
        assert made == {path.relative_to(store) for path in store.rglob("*") if path.is_file()}
        for path in made:
            assert (store / path).read_bytes() == (whole / name / path).read_bytes()


# The folder that all share


def test_nothing_lies_at_the_top_until_all_is_put_together_in_the_same_folder(
    parts: Path, images: Path, small_model: Path, whole: Path
) -> None:
    assert {path.name for path in parts.iterdir()} == {"certificates", "exactile"}
    assert not (parts / "exactile" / "vectors").exists()  # there are no files to place
    assert assemble(parts, parts).code == 0
    assert zarrs(parts) == zarrs(whole)
    assert {path.name for path in parts.iterdir()} == {"certificates", "exactile", STACK, WIDE}
    assert assemble(parts, parts).log.count("already done") == 2
    assert segment(images, parts, small_model).log.count("already done") == 2
    assert "already done" in segment(images, parts, small_model, shard="1/3").log


def test_folders_of_single_shards_can_be_merged(
    tmp_path: Path, images: Path, small_model: Path, whole: Path
) -> None:
    for index in range(2):
        own = tmp_path / f"own{index}"
        assert segment(images, own, small_model, shard=f"{index}/2").code == 0
        shutil.copytree(own, tmp_path / "parts" / "images", dirs_exist_ok=True)
    assert assemble(tmp_path / "parts", tmp_path / "out").code == 0
    assert zarrs(tmp_path / "out") == zarrs(whole)


def test_the_certificate_is_that_of_one_run_and_names_the_parts(
    tmp_path: Path, parts: Path, whole: Path
) -> None:
    assert assemble(parts, tmp_path / "out").code == 0
    for name in (STACK, WIDE):
        made, expected = certificate(tmp_path / "out", name), certificate(whole, name)
        for fact in ("output", "file", "identity", "input", "model", "bit_stability"):
            assert made[fact] == expected[fact], fact
        # How many zones were compared on the image's pixels is each part's own.
        assert made["claim"].split(" In ")[0] == expected["claim"].split(" In ")[0]
    names = [part["name"] for part in certificate(tmp_path / "out", WIDE)["parts"]]
    assert names == ["é_y00000_x00000.ome.zarr", LAST]


# Killed, and repeated


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every window that goes through the network."""
    seen: list[int] = []
    begin = ForwardPass.start

    def watched(self: ForwardPass, *rest: object) -> object:
        seen.append(1)
        return begin(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ForwardPass, "start", watched)
    return seen


def test_a_killed_shard_goes_on_and_leaves_no_record_until_it_is_done(
    tmp_path: Path,
    images: Path,
    small_model: Path,
    whole: Path,
    windows: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    assert segment(images, out, small_model, shard="0/2").code == 0
    windows.clear()
    with monkeypatch.context() as patch:
        begin = ForwardPass.start

        def stumble(self: ForwardPass, *rest: object) -> object:
            if len(windows) == 5:
                raise RuntimeError("the network stumbles")
            return begin(self, *rest)  # type: ignore[arg-type]

        patch.setattr(ForwardPass, "start", stumble)
        assert segment(images, out, small_model, shard="1/2").code == 1
    assert "shard 1/2 left no record" in refused(out)
    ended = segment(images, out, small_model, shard="1/2")
    assert ended.code == 0
    assert "goes on from" in ended.log
    assert assemble(out, out).code == 0
    assert zarrs(out) == zarrs(whole)


AT_THE_SECOND_CHUNK = """
import os, signal
from exactile.images.chunk_files import ChunkFiles
append, stored = ChunkFiles.append, []
def stop(self, tile, data):
    if stored:
        self._path_of(tile).parent.mkdir(parents=True, exist_ok=True)
        self._path_of(tile).write_bytes(data[:20])
        os.kill(os.getpid(), signal.SIGKILL)
    stored.append(tile)
    return append(self, tile, data)
ChunkFiles.append = stop
"""
"""Python that has a worker killed in the middle of a chunk."""


@pytest.mark.slow
def test_workers_at_the_same_time_fill_one_store_and_one_may_be_killed(
    tmp_path: Path, images: Path, small_model: Path, whole: Path
) -> None:
    out, options = tmp_path / "out", {"model": small_model, "tileSize": 1040}
    words = [arguments(images, out, shard=f"{index}/3", **options) for index in range(3)]
    extension = {"POLUS_IMG_EXT": ".ome.zarr"}
    workers = [
        start(each, AT_THE_SECOND_CHUNK * (index == 2), **extension)
        for index, each in enumerate(words)
    ]
    assert [finish(worker).code for worker in workers] == [0, 0, -signal.SIGKILL]
    assert "shard 2/3 left no record" in refused(out)
    assert finish(start(words[2], **extension)).code == 0
    assert assemble(out, out).code == 0
    assert zarrs(out) == zarrs(whole)
    assert not (out / ".exactile").exists()


def test_a_finished_shard_is_not_made_again_unless_its_chunks_changed(
    tmp_path: Path,
    images: Path,
    parts: Path,
    small_model: Path,
    whole: Path,
    windows: list[int],
) -> None:
    assert "already done" in segment(images, parts, small_model, shard="2/3").log
    assert not windows
    damaged = chunk(parts, 2)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    ended = assemble(parts, tmp_path / "out")
    assert ended.code == 1
    assert f"{WIDE}: {LAST}: is damaged" in ended.errors[0]
    assert "run shard 2 again" in ended.errors[0]
    assert set(zarrs(tmp_path / "out")) == {STACK}
    ended = segment(images, parts, small_model, shard="2/3")
    assert ended.code == 0
    assert f"{LAST}: is there, and is made again" in ended.log
    assert assemble(parts, tmp_path / "out").code == 0
    assert zarrs(tmp_path / "out") == zarrs(whole)


def test_a_killed_assembly_goes_on(
    tmp_path: Path, parts: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []

    def counting(stored: StoredPart, *rest: object) -> None:
        if stored.path.name == LAST and LAST not in copied:
            copied.append(LAST)
            raise OutputError("no room")
        copied.append(stored.path.name)
        copy_part(stored, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("exactile.assembly.copy_part", counting)
    assert assemble(parts, tmp_path / "out").code == 1
    assert set(zarrs(tmp_path / "out")) == {STACK}
    copied[:] = [LAST]
    assert assemble(parts, tmp_path / "out").code == 0
    assert copied == [LAST, LAST]
    assert zarrs(tmp_path / "out") == zarrs(whole)


# What is refused


def test_a_missing_shard_is_named(parts: Path) -> None:
    (parts / "exactile/shards/00001-of-00003.json").unlink()
    assert "shard 1/3 left no record" in refused(parts)


def test_a_missing_chunk_is_named(parts: Path) -> None:
    path = chunk(parts, 2, 1)
    path.unlink()
    assert f"missing: {path}; copy the chunks, or run their shards again (2)" in refused(parts)


def test_a_missing_certificate_is_named(parts: Path) -> None:
    (parts / "certificates" / f"{LAST}.json").unlink()
    assert f"{LAST}: its certificate is missing" in refused(parts)


def test_rows_that_two_parts_claim_are_named(parts: Path) -> None:
    content = certificate(parts, LAST)
    content["part"]["rows"] = [0, 3]
    content["identity"]["the part"] = "rows 0 to 3 of tiles of plane T=0 Z=0"
    (parts / "certificates" / f"{LAST}.json").write_text(json.dumps(sealed(content)))
    assert f"é_y00000_x00000.ome.zarr and {LAST} are duplicates" in refused(parts)


@pytest.mark.parametrize(
    ("option", "value", "fact"),
    [("zarrVersion", "0.5", "--zarrVersion was 0.4"), ("outputType", "logits", "--outputType was")],
)
def test_rows_made_with_other_settings_are_foreign(
    parts: Path, images: Path, small_model: Path, option: str, value: str, fact: str
) -> None:
    assert segment(images, parts, small_model, shard="2/3", **{option: value}).code == 0
    message = refused(parts)
    assert f"{LAST} is foreign, it does not go with" in message
    assert fact in message


def test_chunks_of_another_run_under_an_old_certificate_are_refused(
    tmp_path: Path, parts: Path, images: Path, small_model: Path
) -> None:
    """As when runs of other settings write to one folder, and their certificates are mixed."""
    kept = shutil.copytree(parts / "certificates", tmp_path / "kept")
    options = {"tileSize": 1040, "precision": "bfloat16"}
    assert segment(images, parts, small_model, shard="2/3", **options).code == 0
    shutil.copytree(kept, parts / "certificates", dirs_exist_ok=True)
    ended = assemble(parts, tmp_path / "out")
    assert ended.code == 1
    assert f"{LAST}: is damaged, or another part than its certificate speaks of" in ended.errors[0]
    assert set(zarrs(tmp_path / "out")) == {STACK}
