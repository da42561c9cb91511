"""Memory is bounded: twice the image takes no more of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import SLIDE_NAME, make_model, make_slide
from memory import WIDTH, run_with


@pytest.mark.slow
@pytest.mark.parametrize("output", ["labels", "probabilities"])
def test_a_larger_image_takes_no_more_memory(tmp_path: Path, output: str) -> None:
    make_model(tmp_path / "model", WIDTH)
    peaks = []
    for shape in ((8192, 8192), (8192, 16384)):
        images = tmp_path / f"images-{shape[1]}"
        make_slide(images / SLIDE_NAME, shape)
        peaks.append(run_with(output, images, tmp_path).peak_mb)
    assert peaks[1] <= 1.10 * peaks[0]
