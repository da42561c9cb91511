"""Which files a folder and a pattern give, and what their outputs are called."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from unicodedata import normalize

import pytest

from exactile.errors import CollectionError, ImageError, SettingsError
from exactile.images import (
    collect,
    open_source,
    output_name,
    output_names,
    part_stem,
    read_sizes,
)
from exactile.images.digest import FileDigest


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in (
        "b.ome.tif",
        "a.ome.tiff",
        "img_r001_c010.ome.tif",
        "with space.ome.tif",
        "plain.tif",
        "x.ome.tif.bak",
        "x.ome.tiffs",
        ".hidden.ome.tif",
        "notes.txt",
    ):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    return tmp_path


def names(paths: tuple[Path, ...]) -> list[str]:
    return [path.name for path in paths]


def test_by_default_every_ome_tiff_is_found_by_name_and_nothing_else(folder):
    found = collect(folder)
    assert names(found) == [
        "a.ome.tiff",
        "b.ome.tif",
        "img_r001_c010.ome.tif",
        "with space.ome.tif",
    ]
    assert all(path.parent == folder for path in found)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"img_r{r:ddd}_c{c:d+}.ome.tif", ["img_r001_c010.ome.tif"]),
        (r"plain\.tif", ["plain.tif"]),
        (r"[ab]\.ome\.tiff?", ["a.ome.tiff", "b.ome.tif"]),
        (r".*\.ome\.tif$", ["b.ome.tif", "img_r001_c010.ome.tif", "with space.ome.tif"]),
        (r"{name:c+}.tif", ["plain.tif"]),
    ],
)
def test_patterns_match_whole_names(folder, pattern, expected):
    assert names(collect(folder, pattern)) == expected


def test_the_images_of_a_workflow_step_are_found_in_its_sub_folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.ome.tif").touch()
    (tmp_path / "metadata.json").touch()
    assert collect(tmp_path) == (tmp_path / "images" / "a.ome.tif",)
    (tmp_path / "top.ome.tif").touch()
    assert collect(tmp_path) == (tmp_path / "top.ome.tif",)


@pytest.mark.parametrize("pattern", ["[", "(", "{", "}", "*", "\\", "{r:q}", "{r:d"])
def test_a_pattern_that_makes_no_sense_is_named(folder, pattern):
    with pytest.raises(CollectionError) as caught:
        collect(folder, pattern)
    assert f"--filePattern {pattern!r} is not understood" in str(caught.value)


def test_no_match_names_folder_pattern_and_an_example(folder):
    with pytest.raises(CollectionError) as caught:
        collect(folder, r"z.*\.ome\.tif")
    message = str(caught.value)
    assert str(folder) in message
    assert repr(r"z.*\.ome\.tif") in message
    assert "none of the" in message
    assert r"try --filePattern '.*\.tiff?'" in message


@pytest.mark.parametrize(
    "name", ["A.OME.TIF", "a.Ome.Tiff", "a.ome.TIF", "a.OME.zarr", "a.ome.tif"]
)
def test_the_default_pattern_takes_extensions_in_capitals(tmp_path, name):
    (tmp_path / "notes.TXT").touch()
    (tmp_path / name).touch() if "zarr" not in name else (tmp_path / name).mkdir()
    assert names(collect(tmp_path)) == [name]


@pytest.mark.parametrize(
    ("present", "advised"),
    [
        (["a.tif", "b.tiff"], r".*\.tiff?"),
        (["A.TIF"], r".*\.[tT][iI][fF][fF]?"),
        (["a.tif", "B.Tiff"], r".*\.[tT][iI][fF][fF]?"),
        (["notes.txt", "slide.svs"], r".*\.svs"),
        (["SLIDE.SCN"], r".*\.SCN"),
    ],
)
def test_the_pattern_that_is_advised_matches(tmp_path, present, advised):
    for name in present:
        (tmp_path / name).touch()
    with pytest.raises(CollectionError) as caught:
        collect(tmp_path)
    assert f"try --filePattern '{advised}'" in str(caught.value)
    images = [name for name in present if not name.endswith(".txt")]
    assert names(collect(tmp_path, advised)) == sorted(images)


def test_no_match_without_any_tiff_suggests_no_tiff_pattern(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CollectionError, match=r"none of the 1 files .*notes\.txt: change"):
        collect(tmp_path)


def test_an_empty_pattern_matches_nothing(folder):
    with pytest.raises(CollectionError, match="matches none"):
        collect(folder, "")


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(CollectionError, match="is empty"):
        collect(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CollectionError, match="nowhere does not exist"):
        collect(tmp_path / "nowhere")


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "a.ome.tif").touch()
    with pytest.raises(CollectionError, match="is not a folder"):
        collect(tmp_path / "a.ome.tif")


def test_ome_zarr_folders_are_images_and_other_folders_are_not(tmp_path):
    (tmp_path / "a.ome.tif").touch()
    for name in ("b.ome.zarr", "c.zarr", "folder"):
        (tmp_path / name).mkdir()
    assert names(collect(tmp_path)) == ["a.ome.tif", "b.ome.zarr"]
    assert names(collect(tmp_path, ".*")) == ["a.ome.tif", "b.ome.zarr", "c.zarr"]
    assert names(collect(tmp_path, r".*\.ome\.tif")) == ["a.ome.tif"]


@pytest.mark.parametrize(
    "pattern", [r"(a|b)\.ome\.tiff?", r"([a])\.ome\.(tiff|(x))", r"\(?a\.ome[(.]tiff"]
)
def test_groups_in_a_pattern_do_not_end_the_process(folder, pattern):
    assert "a.ome.tiff" in names(collect(folder, pattern))


@pytest.mark.parametrize(
    ("given", "extension", "expected"),
    [
        ("a.ome.tif", None, "a.ome.tif"),
        ("a.ome.tiff", None, "a.ome.tiff"),
        ("a.tif", None, "a.ome.tif"),
        ("a.tiff", "", "a.ome.tif"),
        ("a.TIF", None, "a.ome.tif"),
        ("a.v2.tif", None, "a.v2.ome.tif"),
        ("a.ome.tif", ".ome.tiff", "a.ome.tiff"),
        ("a.tif", ".ome.tiff", "a.ome.tiff"),
        ("a.ome.tiff", ".ome.tif", "a.ome.tif"),
        ("a.ome.tif", ".ome.zarr", "a.ome.zarr"),
        ("a.ome.tif", ".zarr", "a.zarr"),
        ("a.ome.zarr", None, "a.ome.zarr"),
        ("a.zarr", None, "a.ome.zarr"),
        ("a.ome.zarr", ".ome.tif", "a.ome.tif"),
        ("scan.lsm", None, "scan.lsm.ome.tif"),
    ],
)
def test_output_names_keep_the_inputs_name(given, extension, expected):
    assert output_name(Path("folder") / given, extension) == expected


@pytest.mark.parametrize("extension", [".ome.zarr.zip", ".tif", "ome.tif", ".png"])
def test_extensions_that_cannot_be_written_are_refused(extension):
    with pytest.raises(SettingsError, match=r"use one of \.ome\.tif, \.ome\.tiff, \.ome\.zarr"):
        output_name(Path("a.ome.tif"), extension)


def test_two_inputs_with_one_output_name_are_refused():
    paths = (Path("a.ome.tif"), Path("b.tif"), Path("a.tif"))
    assert output_names(paths[:2]) == ("a.ome.tif", "b.ome.tif")
    with pytest.raises(CollectionError, match=r"a\.ome\.tif and a\.tif would both be written"):
        output_names(paths)


def test_what_has_the_name_of_an_image_and_is_none_is_not_left_out(tmp_path):
    """It fails when it is opened, and says why; without that, it would be missed in the results."""
    (tmp_path / "a.ome.tif").touch()
    (tmp_path / "folder.ome.tif").mkdir()
    (tmp_path / "gone.ome.zarr").symlink_to("nowhere")
    (tmp_path / "loop.ome.tif").symlink_to("loop.ome.tif")
    os.mkfifo(tmp_path / "pipe.ome.tif")
    (tmp_path / "results").mkdir()
    expected = ["a.ome.tif", "folder.ome.tif", "gone.ome.zarr", "loop.ome.tif", "pipe.ome.tif"]
    assert names(collect(tmp_path)) == names(collect(tmp_path, ".*")) == expected


ODD_NAMES = ["back\\slash.ome.tif", "new\nline.ome.tif", os.fsdecode(b"Zelle-\xfc.ome.tif")]


@pytest.mark.parametrize("name", [*ODD_NAMES, "img (1).ome.tif", "a+b.ome.tif", "[0-9].ome.tif"])
@pytest.mark.parametrize("pattern", [None, ".*"])
def test_names_of_any_characters_are_matched(tmp_path, name, pattern):
    (tmp_path / name).touch()
    (tmp_path / "other.ome.tif").touch()
    found = collect(tmp_path) if pattern is None else collect(tmp_path, pattern)
    assert sorted(names(found)) == sorted([name, "other.ome.tif"])


@pytest.mark.parametrize(
    "name", ["img (1).ome.tif", "a+b.ome.tif", "a(.ome.tif", "Zelle-ö.ome.tif"]
)
def test_a_name_may_be_given_as_it_is(tmp_path, name):
    (tmp_path / normalize("NFD", name)).touch()
    (tmp_path / "b.ome.tif").touch()
    assert names(collect(tmp_path, name)) == [normalize("NFD", name)]


def odd_images(folder: Path) -> dict[str, Path]:
    odd = {
        "is a folder, not an image": folder / "folder.ome.tif",
        "is a link to /nowhere/a.tif, which is not there": folder / "gone.ome.tif",
        "Too many levels of symbolic links": folder / "loop.ome.tif",
        "is a pipe": folder / "pipe.ome.tif",
        "is a socket": folder / "socket.ome.tif",
        "is a device": folder / "endless.ome.tif",
        "has a name that is not UTF-8": folder / os.fsdecode(b"Zelle-\xfc.ome.tif"),
    }
    folder_path, gone, loop, pipe, endpoint, endless, latin = odd.values()
    folder_path.mkdir()
    gone.symlink_to("/nowhere/a.tif")
    loop.symlink_to(loop.name)
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(endpoint))
    endless.symlink_to("/dev/zero")
    latin.write_bytes(b"II*\0")
    return odd


@pytest.mark.parametrize("look", [open_source, read_sizes])
def test_what_is_no_image_is_refused_at_once_by_its_kind(tmp_path, monkeypatch, look):
    monkeypatch.chdir(tmp_path)  # addresses of sockets must be short
    for said, path in odd_images(Path()).items():
        with pytest.raises(ImageError, match=said):
            look(path)


def test_a_digest_ends_where_links_and_pipes_would_not(tmp_path):
    folder = tmp_path / "a.ome.zarr"
    folder.mkdir()
    (folder / "loop").symlink_to(folder)
    with pytest.raises(OSError, match="a link to a folder that it lies in"):
        FileDigest.of(folder)
    (folder / "loop").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(OSError, match="neither a file nor a folder"):
        FileDigest.of(folder)


def test_zarr_without_ome_in_its_name_is_written_where_it_is_asked_for(tmp_path):
    """nyxus reads OME-Zarr by that name alone."""
    assert output_name(tmp_path / "a.ome.tif", ".zarr") == "a.zarr"
    assert output_name(tmp_path / "a.zarr") == "a.ome.zarr"
    assert part_stem("a.zarr") == ("a", ".zarr")
    assert part_stem("a.ome.zarr") == ("a", ".ome.zarr")
