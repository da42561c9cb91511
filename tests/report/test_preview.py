"""Previews: the same samples however an image goes by, and never in the way of a result."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import noise_image, write_image
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from program import Ended, arguments, call, files_in

from exactile.geometry import AxisLocality, Box, Halo, Interval, Locality
from exactile.images import Plane, open_source
from exactile.report.preview_drawing import CLASS_COLOURS, draw, outline
from exactile.report.samples import Lattice, Samples

NAME = "image.ome.tif"
PREVIEW = f"exactile/previews/{NAME}.png"


def run(folder: Path, model: Path, **options: object) -> Ended:
    return call(arguments(folder / "in", folder / "out", model=model, **options))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.data())
def test_samples_are_the_same_whatever_the_pieces_and_their_order(
    height: int, width: int, most: int, data: st.DataObject
) -> None:
    pixels = np.arange(height * width).reshape(1, height, width)
    lattice = Lattice.over((height, width), most)
    rows, columns = lattice.positions
    sides = [
        list(Interval(0, side).split(data.draw(st.integers(1, side), label="side")))
        for side in (height, width)
    ]
    boxes = data.draw(st.permutations([Box((y, x)) for y in sides[0] for x in sides[1]]))
    samples = Samples(lattice, pixels.dtype, lambda found: found[0])
    for box in boxes:
        samples.add(box, pixels[box.slices])
    assert max(len(rows), len(columns)) <= most
    assert not samples.missing.any()
    assert np.array_equal(samples.values, pixels[0][np.ix_(rows, columns)])


def test_samples_of_a_cropped_and_scaled_output_lie_at_the_same_places() -> None:
    axis = AxisLocality(2, Halo(4, 4), Fraction(1, 2), Halo(4, 4))
    lattice = Lattice.over((20, 20)).of_output(Locality((axis, axis)), (6, 6))
    assert lattice.positions[0].tolist() == [(y - 4) // 2 for y in range(20)]
    assert lattice.inside.sum() == 12 * 12


def test_what_did_not_go_by_is_read_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = noise_image((1500, 2500))
    with open_source(write_image(tmp_path / NAME, pixels)) as source:
        samples = Samples(Lattice.over(source.shape), source.dtype, lambda found: found[0])
        seen = Box((Interval(0, 1024), Interval(0, 2500)))
        samples.add(seen, pixels[None][seen.slices])
        read: list[tuple[int, int]] = []
        source.watch = lambda plane, channel, box, pixels: read.append(box.start)
        samples.complete(source, Plane(), (0,))
        assert sorted(read) == [(1024, 0), (1024, 1024), (1024, 2048)]
        rows, columns = samples.lattice.positions
        assert np.array_equal(samples.values, pixels[np.ix_(rows, columns)])


def test_classes_have_their_colours_and_background_is_left_as_it_is() -> None:
    image = np.linspace(0, 255, 30 * 30).reshape(30, 30).astype(np.uint8)
    found = np.zeros((30, 30), np.uint8)
    found[5:15, 5:15], found[15:25, 15:25] = 1, 2
    picture = np.asarray(draw([image], found, "classes"))
    assert not outline(found)[6:14, 6:14].any()
    for number, place in ((1, (5, 5)), (2, (24, 24))):
        assert np.array_equal(picture[place], np.array(CLASS_COLOURS[number - 1]) & 0xFC)
    without = np.asarray(draw([image], np.zeros_like(found), "classes"))
    assert np.array_equal(picture[found == 0], without[found == 0])
    assert (without[..., 0] == without[..., 2]).all()


@pytest.mark.parametrize("output", ["labels", "probabilities", "logits"])
def test_every_image_gets_a_preview_of_its_own_shape(
    tmp_path: Path, small_model: Path, output: str
) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((2, 1, 3, 300, 2100)))
    assert run(tmp_path, small_model, outputType=output, tileSize=512).code == 0
    with Image.open(tmp_path / "out" / PREVIEW) as picture:
        assert picture.size == (700, 100)
        assert len(set(picture.convert("L").tobytes())) > 8


def test_the_same_picture_comes_from_other_windows_and_from_the_files_alone(
    tmp_path: Path, small_model: Path
) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((700, 600)))
    assert run(tmp_path, small_model, tileSize=256).code == 0
    path = tmp_path / "out" / PREVIEW
    first = path.read_bytes()
    path.unlink()
    ended = run(tmp_path, small_model, tileSize=256)
    assert f"{NAME}: already done" in ended.log
    assert path.read_bytes() == first
    assert run(tmp_path, small_model, tileSize=350).code == 0
    assert path.read_bytes() == first


def test_a_finished_image_keeps_the_preview_it_has(tmp_path: Path, small_model: Path) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((60, 70)))
    assert run(tmp_path, small_model).code == 0
    (tmp_path / "out" / PREVIEW).write_bytes(b"the one it has")
    assert run(tmp_path, small_model).code == 0
    assert (tmp_path / "out" / PREVIEW).read_bytes() == b"the one it has"


def test_an_image_made_again_does_not_keep_the_preview_of_another(
    tmp_path: Path, small_model: Path
) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((60, 70)))
    assert run(tmp_path, small_model).code == 0
    before = (tmp_path / "out" / PREVIEW).read_bytes()
    write_image(tmp_path / "in" / NAME, noise_image((60, 70), seed=1))
    assert run(tmp_path, small_model).code == 0
    assert (tmp_path / "out" / PREVIEW).read_bytes() != before


def test_pictures_that_cannot_be_written_are_said_and_the_image_is_done(
    tmp_path: Path, small_model: Path
) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((60, 70)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "exactile").write_text("the user's own")
    ended = run(tmp_path, small_model)
    assert ended.code == 0, ended.log
    assert f"{NAME}: is complete, but its preview cannot be made" in ended.log
    assert "report.html: the report cannot be written" in ended.log
    assert files_in(tmp_path / "out") == [f"certificates/{NAME}.json", "exactile", NAME]
    assert (tmp_path / "out" / "exactile").read_text() == "the user's own"
