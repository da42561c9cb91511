"""Mosaics through the program: the result is that of the assembled image, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from conftest import noise_image, write_image, write_random_model
from mosaics import Tiles, grid_of_tiles, line
from program import Ended, arguments, call, files_in, results_in

from exactile.forward import ForwardPass
from exactile.images import PhysicalSize

NAME = "img-global-positions-1"
WHOLE = f"{NAME}.ome.tif"


def run(tmp_path: Path, model: Path, *rest: object, **options: object) -> Ended:
    words = {"model": model, "tileSize": 512, "stitchingVector": tmp_path / "vectors"} | options
    return call(arguments(tmp_path / "in", tmp_path / "out", *rest, **words))


def write(tmp_path: Path, tiles: Tiles) -> None:
    tiles.write(tmp_path / "in", tmp_path / "vectors" / f"{NAME}.txt")


def segment_assembled(tmp_path: Path, tiles: Tiles, model: Path, **options: object) -> Any:
    """Return what the program makes of the assembled image, as a file of its own."""
    # The name in the file is written on, so it must be the same for equal bytes.
    write_image(tmp_path / "assembled" / WHOLE, tiles.assembled(), name=NAME)
    words = {"model": model, "tileSize": 512} | options
    ended = call(arguments(tmp_path / "assembled", tmp_path / "expected", **words))
    assert ended.code == 0, ended.log
    return tmp_path / "expected" / WHOLE


@pytest.fixture
def small(tmp_path: Path) -> Tiles:
    tiles = grid_of_tiles(2, 2, (60, 70))
    write(tmp_path, tiles)
    return tiles


@pytest.mark.parametrize(
    ("output", "dtype"),
    [
        ("labels", np.uint16),
        pytest.param("probabilities", np.float32, marks=pytest.mark.slow),
        pytest.param("labels", np.float32, marks=pytest.mark.slow),
        pytest.param("probabilities", np.uint16, marks=pytest.mark.slow),
    ],
)
def test_25_overlapping_files_give_the_bytes_of_the_assembled_image(
    tmp_path: Path, dtype: Any, output: str
) -> None:
    """Halos reach over the seams of files, windows end elsewhere, and chunks elsewhere again."""
    model = tmp_path / "model"
    write_random_model(model, seed=3, depth=2, base_width=4, classes=4)
    tiles = grid_of_tiles(5, 5, (270, 290), overlap=21, dtype=dtype)
    write(tmp_path, tiles)
    ended = run(tmp_path, model, outputType=output)
    assert ended.code == 0, ended.log
    expected = segment_assembled(tmp_path, tiles, model, outputType=output)
    found = tmp_path / "out" / WHOLE
    assert found.read_bytes() == expected.read_bytes()
    assert results_in(tmp_path / "out") == sorted([WHOLE, f"certificates/{WHOLE}.json"])
    assert len(np.unique(tifffile.imread(found))) > 1


def test_gaps_are_zeros_to_the_network_and_to_the_statistics(
    tmp_path: Path, small_model: Path
) -> None:
    tiles = Tiles()
    for number, (y, x) in enumerate([(200, 150), (0, 90), (120, 0)]):
        tiles.add(f"{number}.ome.tif", y, x, noise_image((100, 110), number))
    write(tmp_path, tiles)
    assert run(tmp_path, small_model, outputType="probabilities").code == 0
    expected = segment_assembled(tmp_path, tiles, small_model, outputType="probabilities")
    assert (tmp_path / "out" / WHOLE).read_bytes() == expected.read_bytes()


def test_every_plane_of_a_mosaic_of_stacks_comes_out_in_its_place(
    tmp_path: Path, small_model: Path
) -> None:
    tiles = Tiles()
    for number, (y, x) in enumerate([(0, 0), (31, 5)]):
        tiles.add(f"{number}.ome.tif", y, x, noise_image((2, 1, 3, 50, 60), number))
    write(tmp_path, tiles)
    assert run(tmp_path, small_model).code == 0
    expected = segment_assembled(tmp_path, tiles, small_model)
    assert (tmp_path / "out" / WHOLE).read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("output", ["labels", "probabilities"])
def test_files_are_the_mosaics_result_where_each_of_them_lies(
    tmp_path: Path, small_model: Path, output: str
) -> None:
    tiles = grid_of_tiles(2, 3, (130, 1050), overlap=25)
    write(tmp_path, tiles)
    assert run(tmp_path, small_model, outputType=output, mosaicOutput="files").code == 0
    expected = tifffile.imread(segment_assembled(tmp_path, tiles, small_model, outputType=output))
    names = [name for name, *_ in tiles.placed]
    pictures = [f"exactile/mosaics/exactile/previews/{WHOLE}.png", "exactile/report.html"]
    assert files_in(tmp_path / "out") == sorted(
        [
            *pictures,
            *names,
            *(f"certificates/{name}.json" for name in names),
            f"exactile/mosaics/{WHOLE}",
            f"exactile/mosaics/certificates/{WHOLE}.json",
        ]
    )
    for name, y, x, pixels in tiles.placed:
        height, width = pixels.shape
        found = tifffile.imread(tmp_path / "out" / name)
        assert found.shape[-2:] == (height, width)
        assert np.array_equal(found, expected[..., y : y + height, x : x + width]), name
    certificate = json.loads((tmp_path / "out" / f"certificates/{names[0]}.json").read_text())
    assert certificate["output"] == names[0]
    _, y, x, pixels = tiles.placed[0]
    assert certificate["identity"]["the place"] == (
        f"y {y} to {y + pixels.shape[0]}, x {x} to {x + pixels.shape[1]} of {WHOLE}"
    )


def test_files_keep_the_metadata_of_the_file_they_are_cut_for(
    tmp_path: Path, small_model: Path
) -> None:
    tiles = grid_of_tiles(1, 2, (60, 70))
    write(tmp_path, tiles)
    name = tiles.placed[1][0]
    write_image(tmp_path / "in" / name, tiles.placed[1][3], x=PhysicalSize(0.31), name="field 2")
    assert run(tmp_path, small_model, mosaicOutput="files").code == 0
    with tifffile.TiffFile(tmp_path / "out" / name) as tiff:
        assert 'Name="field 2"' in tiff.ome_metadata
        assert 'PhysicalSizeX="0.31"' in tiff.ome_metadata


def test_each_vector_of_a_folder_is_an_image_of_its_own(
    tmp_path: Path, small_model: Path, small: Tiles
) -> None:
    (tmp_path / "vectors" / "img-global-positions-2.txt").write_text(
        "".join(line(name, x, y) for name, y, x, _ in small.placed)
    )
    assert run(tmp_path, small_model).code == 0
    names = [path.name for path in sorted((tmp_path / "out").glob("*.tif"))]
    assert names == [WHOLE, "img-global-positions-2.ome.tif"]
    assert tifffile.imread(tmp_path / "out" / names[0]).shape == small.assembled().shape


@pytest.mark.parametrize("shard", ["", "0/1"])
def test_a_vector_that_cannot_be_used_is_the_failure_of_its_mosaic_alone(
    tmp_path: Path, small_model: Path, small: Tiles, shard: str
) -> None:
    (tmp_path / "vectors" / "img-global-positions-0.txt").write_bytes(b"\xff\xfe")
    ended = run(tmp_path, small_model, shard=shard)
    assert ended.code == 1
    message, _ = ended.errors
    assert "img-global-positions-0.txt is no stitching vector: it is not text in UTF-8" in message
    assert [path.name.partition("_")[0][:22] for path in (tmp_path / "out").glob("*.tif")] == [
        NAME[:22]
    ]


@pytest.mark.parametrize("output", ["image", "files"])
def test_a_preview_lists_what_will_be_there(
    tmp_path: Path, small_model: Path, small: Tiles, output: str
) -> None:
    assert run(tmp_path, small_model, "--preview", mosaicOutput=output).code == 0
    assert files_in(tmp_path / "out") == ["preview.json"]
    listed = json.loads((tmp_path / "out" / "preview.json").read_text())["outDir"]
    (tmp_path / "out" / "preview.json").unlink()
    assert run(tmp_path, small_model, mosaicOutput=output).code == 0
    assert sorted(listed) == [path.name for path in sorted((tmp_path / "out").glob("*.tif"))]


def test_the_raw_folder_of_an_earlier_step_and_blank_options_are_understood(
    tmp_path: Path, small_model: Path, small: Tiles
) -> None:
    small.write(tmp_path / "raw" / "images", tmp_path / "vectors" / f"{NAME}.txt")
    words = arguments(
        tmp_path / "raw",
        tmp_path / "out",
        model=small_model,
        stitchingVector=tmp_path / "vectors",
        mosaicOutput="",
        filePattern="",
    )
    assert call(words).code == 0
    assert (tmp_path / "out" / WHOLE).is_file()


def test_a_finished_mosaic_is_not_done_again_until_a_file_or_a_place_changes(
    tmp_path: Path, small_model: Path, small: Tiles
) -> None:
    assert run(tmp_path, small_model).code == 0
    assert "already done" in run(tmp_path, small_model).log
    write_image(tmp_path / "in" / small.placed[1][0], small.placed[1][3] + 1)
    assert "the image differs" in run(tmp_path, small_model).log
    vector = tmp_path / "vectors" / f"{NAME}.txt"
    vector.write_text(vector.read_text().replace("position: (0, 0)", "position: (0, 1)"))
    assert "the image differs" in run(tmp_path, small_model).log
    assert "already done" in run(tmp_path, small_model).log


@pytest.mark.parametrize("output", ["image", "files"])
def test_an_interrupted_mosaic_goes_on_where_it_was(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    """Windows of 1040 px give zones that fill a tile of the journal each."""
    tiles = grid_of_tiles(2, 2, (700, 600), overlap=20)
    write(tmp_path, tiles)
    start_pass, passes = ForwardPass.start, 0

    def stumble(self: ForwardPass, *rest: Any) -> Any:
        nonlocal passes
        passes += 1
        if passes == 4:
            raise RuntimeError("the network stumbles")
        return start_pass(self, *rest)

    options = {"tileSize": 1040, "mosaicOutput": output, "outputType": "probabilities"}
    monkeypatch.setattr(ForwardPass, "start", stumble)
    ended = run(tmp_path, small_model, **options)
    assert ended.code == 1
    assert "the same command goes on" in ended.errors[0]
    assert list((tmp_path / "out").glob("*.tif")) == []
    ended = run(tmp_path, small_model, **options)
    assert ended.code == 0, ended.log
    assert "goes on from" in ended.log
    del options["mosaicOutput"]
    expected = tifffile.imread(segment_assembled(tmp_path, tiles, small_model, **options))
    if output == "image":
        assert np.array_equal(tifffile.imread(tmp_path / "out" / WHOLE), expected)
    else:
        for name, y, x, _ in tiles.placed:
            part = expected[..., y : y + 700, x : x + 600]
            assert np.array_equal(tifffile.imread(tmp_path / "out" / name), part)


def test_only_files_that_are_missing_or_damaged_are_cut_again(
    tmp_path: Path, small_model: Path, small: Tiles
) -> None:
    assert run(tmp_path, small_model, mosaicOutput="files").code == 0
    paths = [tmp_path / "out" / name for name, *_ in small.placed]
    content = {path: path.read_bytes() for path in paths}
    paths[0].unlink()
    paths[1].write_bytes(b"damaged")
    written = [path.stat().st_mtime_ns for path in paths[2:]]
    assert run(tmp_path, small_model, mosaicOutput="files").code == 0
    assert {path: path.read_bytes() for path in paths} == content
    assert [path.stat().st_mtime_ns for path in paths[2:]] == written


def bad_vectors(tiles: Tiles) -> dict[str, tuple[str, str]]:
    """What stands in the vector, and what the message says."""
    names = [name for name, *_ in tiles.placed]
    good = "".join(line(name, 0, 0) for name in names)
    return {
        "malformed": (good + "file: x.ome.tif; position (1, 2)\n", "line 5 is"),
        "missing": (good + line("absent é.ome.tif", 0, 0), "absent é.ome.tif (line 5)"),
        "twice": (good + line(names[2], 9, 9), "twice, in the lines 3 and 5"),
        "empty": ("", "places no file"),
    }


@pytest.mark.parametrize("which", ["malformed", "missing", "twice", "empty"])
@pytest.mark.parametrize("output", ["image", "files"])
def test_a_vector_that_cannot_be_used_ends_the_run_with_one_message_and_no_files(
    tmp_path: Path, small_model: Path, small: Tiles, which: str, output: str
) -> None:
    text, message = bad_vectors(small)[which]
    (tmp_path / "vectors" / f"{NAME}.txt").write_text(text, encoding="utf-8")
    ended = run(tmp_path, small_model, mosaicOutput=output)
    assert ended.code == 1
    assert len(ended.errors) == 1
    assert message in ended.errors[0]
    assert not (tmp_path / "out").exists()


def test_a_file_of_another_kind_fails_its_mosaic_and_leaves_nothing(
    tmp_path: Path, small_model: Path, small: Tiles
) -> None:
    name = small.placed[3][0]
    write_image(tmp_path / "in" / name, small.placed[3][3].astype(np.float32))
    ended = run(tmp_path, small_model)
    assert ended.code == 1
    assert f"{name} has pixels of type float32, and" in ended.errors[0]
    assert files_in(tmp_path / "out") == []


def test_a_pattern_beside_a_vector_is_refused(
    tmp_path: Path, small_model: Path, small: Tiles
) -> None:
    ended = run(tmp_path, small_model, filePattern="tile.*")
    assert ended.code == 2
    assert "has no use beside --stitchingVector" in ended.errors[0]


def test_files_without_a_vector_are_refused(
    tmp_path: Path, small_model: Path, small: Tiles
) -> None:
    ended = run(tmp_path, small_model, stitchingVector="", mosaicOutput="files")
    assert ended.code == 2
    assert "give --stitchingVector" in ended.errors[0]


def test_files_that_two_vectors_place_are_refused_before_anything_is_done(
    tmp_path: Path, small_model: Path, small: Tiles
) -> None:
    vector = tmp_path / "vectors" / f"{NAME}.txt"
    (tmp_path / "vectors" / "img-global-positions-2.txt").write_text(vector.read_text())
    ended = run(tmp_path, small_model, mosaicOutput="files")
    assert ended.code == 1
    assert "would both be cut back to" in ended.errors[0]
    assert not (tmp_path / "out").exists()


def test_a_network_that_scales_the_image_gives_no_files(tmp_path: Path, small: Tiles) -> None:
    torch.jit.script(torch.nn.Conv2d(1, 2, 5)).save(tmp_path / "valid.pt")
    ended = run(tmp_path, tmp_path / "valid.pt", mosaicOutput="files")
    assert ended.code == 1
    assert "--mosaicOutput files needs an output as large as the image" in ended.errors[0]
    assert not (tmp_path / "out").exists()


def test_the_folder_of_the_files_is_no_output_folder(
    tmp_path: Path, small_model: Path, small: Tiles
) -> None:
    words = arguments(
        tmp_path / "in", tmp_path / "in", model=small_model, stitchingVector=tmp_path / "vectors"
    )
    before = files_in(tmp_path / "in")
    assert call(words).code == 1
    assert files_in(tmp_path / "in") == before


def test_channels_are_chosen_in_every_file(tmp_path: Path) -> None:
    write_random_model(tmp_path / "model", depth=1, base_width=2)
    tiles = Tiles()
    for number, x in enumerate([0, 50]):
        tiles.add(f"{number}.ome.tif", 0, x, noise_image((3, 1, 60, 70), number))
    write(tmp_path, tiles)
    assert run(tmp_path, tmp_path / "model", channel=2).code == 0
    expected = segment_assembled(tmp_path, tiles, tmp_path / "model", channel=2)
    assert (tmp_path / "out" / WHOLE).read_bytes() == expected.read_bytes()
