"""The demonstration: a slide, its labels, a picture, and figures that were computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exactile.demo import demonstrate, make_slide
from exactile.geometry import Box
from exactile.images import Plane, open_source
from exactile.report.overlay import shrink
from exactile.report.progress import LogWatcher
from exactile.report.summary import describe_demonstration
from exactile.synthetic import slide


def test_a_demonstration_finds_the_colonies_and_says_so(tmp_path: Path) -> None:
    made = demonstrate(tmp_path / "demo", (1100, 700), LogWatcher(), tile_size="512")
    with open_source(made.labels) as source:
        labels = source.read(Plane(0, 0), (0,), Box.of_shape((1100, 700)))[0]
    truth = slide(Box.of_shape((1100, 700)))[1]
    common = np.logical_and(labels == 1, truth == 1).sum()
    assert made.dice == pytest.approx(2 * common / ((labels == 1).sum() + (truth == 1).sum()))
    assert made.dice > 0.97
    text = describe_demonstration(made)
    assert "bit-stable: " in text
    assert "Mpx/s" in text
    assert f"{made.dice:.4f}" in text
    with Image.open(made.overlay) as picture:
        assert picture.size == (700, 1100)
        colours = np.asarray(picture)
    tinted = (colours[..., 0] > colours[..., 2]).mean()
    assert tinted == pytest.approx((labels == 1).mean(), abs=0.01)


@pytest.mark.slow
def test_a_picture_of_a_large_slide_is_an_average(tmp_path: Path) -> None:
    make_slide(tmp_path / "slide.ome.tif", (1500, 2100))
    whole = slide(Box.of_shape((1500, 2100)))[0].astype(np.float64)
    with open_source(tmp_path / "slide.ome.tif") as source:
        small = shrink(source, 7)
    expected = whole[:1498].reshape(214, 7, 300, 7).mean((1, 3))
    assert small.shape == expected.shape
    assert np.allclose(small, expected, rtol=1e-5)
