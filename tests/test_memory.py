"""Memory is bounded: twice the image takes no more of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory import make_image, make_model, peak_of_run


@pytest.mark.slow
@pytest.mark.parametrize("output", ["labels", "probabilities"])
def test_a_larger_image_takes_no_more_memory(tmp_path: Path, output: str) -> None:
    make_model(tmp_path / "model")
    peaks = []
    for shape in ((8192, 8192), (8192, 16384)):
        images = tmp_path / f"images-{shape[1]}"
        images.mkdir()
        make_image(images / "image.ome.tif", shape)
        peak, _ = peak_of_run(images, tmp_path / "results", tmp_path / "model", output)
        peaks.append(peak)
    assert peaks[1] <= 1.10 * peaks[0]
