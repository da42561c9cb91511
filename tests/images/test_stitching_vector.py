"""Stitching vectors: what is understood, and which line is named where one is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exactile.errors import CollectionError
from exactile.images.mosaic import read_mosaic
from exactile.images.stitching_vector import Placement, find_vectors, read_vector

GOOD = "file: a.ome.tif; corr: 0; position: (1, 2); grid: (0, 0);\n"


def read(tmp_path: Path, content: str | bytes) -> tuple[Placement, ...]:
    path = tmp_path / "img-global-positions-1.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_vector(path)


def test_a_position_is_x_and_then_y(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD) == (Placement(1, "a.ome.tif", y=2, x=1),)


def test_lines_keep_their_order_and_numbers_with_blank_ones_aside(tmp_path: Path) -> None:
    found = read(tmp_path, f"\n{GOOD.replace('a.', 'z.')}\n   \n{GOOD}\n\n")
    assert [(each.line, each.name) for each in found] == [(2, "z.ome.tif"), (5, "a.ome.tif")]


@pytest.mark.parametrize(
    "text",
    [
        "file: {}; corr: 0.987; position: (1, 2); grid: (0, 0);",
        "file: {}; corr: 0; position: (1, 2); grid: (0, 0);\r\n",
        "\ufefffile: {}; corr: 0; position: (1, 2); grid: (0, 0);\n",
        "  file: {} ; corr: NaN ; position: ( 1 ,2 ) ; grid: (-1,3) ;  \t\n",
        "file:{};corr:-1.0;position:(1,2);grid:(0,0)\n",
        "file: {}; corr: ; position: (1.0, +2.); grid: (0.0, 0);\n",
    ],
)
@pytest.mark.parametrize("name", ["a.tif", "well A (1); day 2.ome.tif", "Zelle µ-日本.ome.tif"])
def test_forms_that_programs_write_are_understood(tmp_path: Path, text: str, name: str) -> None:
    assert read(tmp_path, text.format(name)) == (Placement(1, name, y=2, x=1),)


def test_negative_positions_move_the_image_to_the_origin_and_positive_ones_do_not(
    tmp_path: Path,
) -> None:
    lines = [GOOD, "file: b; corr: 0; position: (-7, 30); grid: (0, 0);\n"]
    found = read(tmp_path, "".join(lines))
    assert [(each.y, each.x) for each in found] == [(2, 8), (30, 0)]


@pytest.mark.parametrize(
    "line",
    [
        "a.ome.tif 1 2",
        "file: ; corr: 0; position: (1, 2); grid: (0, 0);",
        "file: a; corr: 0; position: (1.5, 2); grid: (0, 0);",
        "file: a; corr: 0; position: (1, 2, 3); grid: (0, 0);",
        "file: a; corr: 0; position: (one, 2); grid: (0, 0);",
        "file: a; corr: 0; position: (1e3, 2); grid: (0, 0);",
        "file: a; corr: 0; position: 1, 2; grid: (0, 0);",
        "file: a; position: (1, 2); grid: (0, 0);",
        "file: a; corr: 0; position: (1, 2);",
        "file: a; corr: 0; position: (1, 2); grid: (0, 0); file: b; corr: 0;",
        "file: a; corr: 0; position: (1, 2); grid: (0",
        "x" * 10_000,
    ],
)
def test_a_line_of_another_form_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(CollectionError, match="line 3 is ") as caught:
        read(tmp_path, f"{GOOD}\n{line}\n")
    assert len(str(caught.value)) < 500


def test_a_file_that_is_placed_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"a\.ome\.tif twice, in the lines 1 and 3"):
        read(tmp_path, f"{GOOD}\n{GOOD.replace('1, 2', '3, 4')}")


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_a_vector_without_lines_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(CollectionError, match="places no file"):
        read(tmp_path, content)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="not text in UTF-8"):
        read(tmp_path, b"II*\x00\xff\xfe\x80" * 100)


def test_vectors_of_a_folder_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("img-global-positions-10.txt", "img-global-positions-2.txt", "statistics.txt"):
        (tmp_path / name).write_text(GOOD)
    (tmp_path / "img-global-positions-3.txt").mkdir()
    found = find_vectors(tmp_path)
    assert [path.name for path in found] == [
        "img-global-positions-2.txt",
        "img-global-positions-10.txt",
    ]


def test_a_vector_that_is_given_itself_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "positions of plate 1"
    path.write_text(GOOD)
    assert find_vectors(path) == (path,)


def test_a_path_without_vectors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="does not exist"):
        find_vectors(tmp_path / "absent")
    with pytest.raises(CollectionError, match=re.escape("without img-global-positions-*.txt")):
        find_vectors(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "file: a; corr: 0; position: (9999999999, 0); grid: (0, 0);",
        f"file: a; corr: 0; position: ({'1' * 4000}, 0); grid: (0, 0);",
        "file: a\0b; corr: 0; position: (0, 0); grid: (0, 0);",
        "file: ; corr: 0; position: (0, 0); grid: (0, 0);",
        "corr: 0; file: a; position: (0, 0); grid: (0, 0);",
        "file:" + " " * 4000 + "; " * 20,
    ],
    ids=lambda line: line[:30],
)
def test_a_line_that_no_mosaic_can_have_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "vector.txt").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(CollectionError, match=r"vector\.txt, line 1 is "):
        read_vector(tmp_path / "vector.txt")


@pytest.mark.parametrize("name", ["..", "x" * 300, "a/b"])
def test_names_that_no_file_of_the_folder_has_are_missing(tmp_path: Path, name: str) -> None:
    path = tmp_path / "vector.txt"
    path.write_text(f"file: {name}; corr: 0; position: (0, 0); grid: (0, 0);\n")
    with pytest.raises(CollectionError, match="files that are not in"):
        read_mosaic(path, tmp_path)
