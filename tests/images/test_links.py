"""Nothing outside the output folder is written, emptied or removed, whatever links lie in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exactile.certificate import certificate_path, written_beside
from exactile.errors import CollectionError, OutputError
from exactile.geometry import Box
from exactile.images import OutputImage, Plane, open_sink, read_mosaic
from exactile.images.journal import Journal, remove_leftovers
from exactile.images.links import fresh, is_plain_name
from exactile.images.metadata import ImageMetadata
from exactile.images.work_folder import work_folder
from exactile.outputs import check_folder
from exactile.report.preview import REPORT_FOLDER
from exactile.shard_files import ShardRecord
from exactile.stored_json import MalformedError


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return a folder elsewhere, with files in it."""
    folder = tmp_path / "elsewhere"
    (folder / "0" / "sub").mkdir(parents=True)
    for name in ("thesis.txt", "journal", "page-000000", "0/sub/data.txt", "whole"):
        (folder / name).write_text("precious")
    return folder


@pytest.fixture
def out_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def everything(folder: Path) -> dict[str, str]:
    """Return all files below a folder with what is in them."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write(output: Path, *, journal: bool) -> None:
    """Write an image as a run does."""
    image = OutputImage((8, 8), np.dtype(np.uint8), 1, 1, 1, ImageMetadata())
    pixels = np.ones((1, 8, 8), np.uint8)
    if not journal:
        with open_sink(output, image) as sink:
            sink.write(Plane(0, 0), Box.of_shape((8, 8)), pixels)
        return
    with Journal(output, {"a": 1}) as kept, open_sink(output, image, journal=kept) as sink:
        sink.write(Plane(0, 0), Box.of_shape((8, 8)), pixels)


def link_work_folder(output: Path, victim: Path) -> Path:
    work_folder(output).parent.mkdir()
    work_folder(output).symlink_to(victim)
    return work_folder(output)


def link_its_parent(output: Path, victim: Path) -> Path:
    work_folder(output).parent.symlink_to(victim)
    return work_folder(output).parent


def link_inside(name: str, target: str, *, hard: bool = False) -> Callable[[Path, Path], Path]:
    def make(output: Path, victim: Path) -> Path:
        place = work_folder(output) / name
        place.parent.mkdir(parents=True)
        if hard:
            place.hardlink_to(victim / target)
        else:
            place.symlink_to(victim / target)
        return place

    return make


LINKS = {
    "the work folder": link_work_folder,
    "the folder of work folders": link_its_parent,
    "the journal": link_inside("journal", "journal"),
    "the journal, by a second name": link_inside("journal", "journal", hard=True),
    "tiles": link_inside("page-000000", "page-000000"),
    "tiles, by a second name": link_inside("page-000000", "page-000000", hard=True),
    "the whole image": link_inside("whole", "whole"),
    "the whole folder": link_inside("whole", "."),
    "a level of it": link_inside("whole/0", "0"),
    "nothing": link_inside("journal", "not there"),
}


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
@pytest.mark.parametrize("link", LINKS)
def test_links_where_temporary_files_lie_are_refused(
    out_dir: Path, victim: Path, link: str, name: str
) -> None:
    before = everything(victim)
    place = LINKS[link](out_dir / name, victim)
    with pytest.raises(OutputError) as caught:
        write(out_dir / name, journal=True)
    assert str(caught.value).startswith(f"{place}: is a")
    assert "remove it, or choose another --outDir" in str(caught.value)
    remove_leftovers(out_dir / name)
    assert everything(victim) == before
    assert not (out_dir / name).exists()


@pytest.mark.parametrize("link", ["the work folder", "the folder of work folders"])
def test_a_sink_without_a_journal_refuses_them_too(out_dir: Path, victim: Path, link: str) -> None:
    before = everything(victim)
    LINKS[link](out_dir / "a.ome.tif", victim)
    with pytest.raises(OutputError, match="is a link"):
        write(out_dir / "a.ome.tif", journal=False)
    assert everything(victim) == before


def test_a_link_of_the_result_s_name_is_replaced(out_dir: Path, victim: Path) -> None:
    before = everything(victim)
    (out_dir / "a.ome.tif").symlink_to(victim / "thesis.txt")
    write(out_dir / "a.ome.tif", journal=True)
    assert everything(victim) == before
    assert not (out_dir / "a.ome.tif").is_symlink()


def test_a_second_name_of_the_input_is_replaced(out_dir: Path, victim: Path) -> None:
    before = everything(victim)
    (out_dir / "a.ome.tif").hardlink_to(victim / "thesis.txt")
    write(out_dir / "a.ome.tif", journal=True)
    assert everything(victim) == before


def test_a_link_of_a_result_that_is_a_folder_is_refused(out_dir: Path, victim: Path) -> None:
    before = everything(victim)
    (out_dir / "a.ome.zarr").symlink_to(victim)
    with pytest.raises(OutputError, match="is a link"):
        write(out_dir / "a.ome.zarr", journal=True)
    assert everything(victim) == before


@pytest.mark.parametrize(
    "place",
    ["certificates", REPORT_FOLDER, ".exactile"]
    + [f"{REPORT_FOLDER}/{name}" for name in ("previews", "shards", "vectors", "chunks")],
)
def test_sub_folders_that_are_links_are_refused_before_anything_is_done(
    out_dir: Path, victim: Path, place: str
) -> None:
    (out_dir / place).parent.mkdir(exist_ok=True)
    (out_dir / place).symlink_to(victim)
    with pytest.raises(OutputError, match="is a link"):
        check_folder(out_dir)


def test_the_output_folder_itself_may_be_a_link(tmp_path: Path, out_dir: Path) -> None:
    (tmp_path / "link").symlink_to(out_dir)
    check_folder(tmp_path / "link")
    write(tmp_path / "link" / "a.ome.tif", journal=True)
    assert (out_dir / "a.ome.tif").is_file()


@pytest.mark.parametrize("hard", [False, True])
def test_a_certificate_is_not_written_through_a_link(
    out_dir: Path, victim: Path, hard: bool
) -> None:
    before = everything(victim)
    path = certificate_path(out_dir / "a.ome.tif")
    path.parent.mkdir()
    for name in (f"{path.name}.partial", path.name):
        if hard:
            (path.parent / name).hardlink_to(victim / "thesis.txt")
        else:
            (path.parent / name).symlink_to(victim / "thesis.txt")
    with written_beside(out_dir / "a.ome.tif", {"a": 1}):
        pass
    assert everything(victim) == before
    assert not path.is_symlink()
    assert path.read_text().startswith("{")


def test_a_file_is_written_anew_beside_its_other_name(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("precious")
    os.link(tmp_path / "kept", tmp_path / "name")
    fresh(tmp_path / "name").write_text("new")
    assert (tmp_path / "kept").read_text() == "precious"


@pytest.mark.parametrize("name", ["..", ".", "", "../a", "/etc/passwd", "a/b", "a/..", "a\0b"])
def test_what_leads_out_of_a_folder_is_no_name(name: str) -> None:
    assert not is_plain_name(name)


@pytest.mark.parametrize("name", ["..", "", "../a", "a/b"])
def test_the_record_of_a_shard_names_files_of_its_folder_alone(tmp_path: Path, name: str) -> None:
    path = ShardRecord(0, 1, "digest", (name,)).write(tmp_path)
    with pytest.raises(MalformedError, match="is not the name of a file"):
        ShardRecord.read(path)


@pytest.mark.parametrize("name", ["../elsewhere/thesis.txt", "..", "{victim}/thesis.txt"])
def test_a_stitching_vector_names_files_of_its_collection_alone(
    tmp_path: Path, out_dir: Path, victim: Path, name: str
) -> None:
    vector = tmp_path / "img-global-positions-0.txt"
    named = name.format(victim=victim)
    vector.write_text(f"file: {named}; corr: 0; position: (0, 0); grid: (0, 0);\n")
    with pytest.raises(CollectionError, match="that are not in"):
        read_mosaic(vector, out_dir)
