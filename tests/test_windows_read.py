"""A window is read as it would be cut from the padded image, into memory that was used before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from exactile.geometry import Box, Interval
from exactile.images import Plane, Volume, open_source
from exactile.pipeline import Normalized
from exactile.processing import Standardize
from exactile.recycling import Recycled

SHAPES = {"plane": (37, 53), "volume": (5, 33, 21), "line": (1, 40), "pixel": (1, 1)}
STEP = Standardize(mean=(100.0,), deviation=(7.0,))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("images")
    paths = {name: folder / f"{name}.ome.tif" for name in SHAPES}
    for name, shape in SHAPES.items():
        tifffile.imwrite(paths[name], pixels_of(name), metadata={"axes": "ZYX"[-len(shape) :]})
    return paths


def pixels_of(name: str) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**16, SHAPES[name]).astype(np.uint16)


@given(data=st.data())
def test_any_window_is_that_of_the_padded_image(
    images: dict[str, Path], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(SHAPES)))
    shape = SHAPES[name]
    padded = np.pad(pixels_of(name), [(0, 3 * side) for side in shape], mode="reflect")
    expected = (padded.astype(np.float32) - np.float32(100)) / np.float32(7)
    free = Recycled()
    with open_source(images[name]) as source:
        whole = Plane(0, 0) if len(shape) == 2 else Volume(0)
        image = Normalized(source, whole, (0,), (STEP,))
        for _ in range(4):
            starts = [data.draw(st.integers(0, side - 1)) for side in shape]
            lengths = [data.draw(st.integers(1, 2 * side)) for side in shape]
            sides = zip(starts, lengths, strict=True)
            box = Box(tuple(Interval(start, start + length) for start, length in sides))
            found = image.read(box, free)
            assert np.array_equal(found[0], expected[box.slices])
            found[...] = np.nan
            free.give(found)


def test_memory_is_used_again_for_windows_of_one_shape() -> None:
    free = Recycled()
    first, second = free.take((1, 4, 4)), free.take((1, 4, 4))
    assert not np.shares_memory(first, second)
    free.give(first)
    assert free.take((1, 4, 4)) is first
    free.give(second)
    other = free.take((1, 4, 5))
    assert other.shape == (1, 4, 5)
    assert free.take((1, 4, 4)) is not second
