"""The tag that some readers need and TIFF does not ask for."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import write_image


@pytest.mark.parametrize(("dtype", "expected"), [("uint8", 1), ("uint16", 1), ("float32", 3)])
def test_every_page_says_what_its_samples_are(
    dtype: str, expected: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """nyxus refuses a page without the tag: it reads 0 for its default."""
    path = write_image(tmp_path / "a.ome.tif", np.zeros((2, 3, 2, 30, 40), dtype))
    with tifffile.TiffFile(path) as tiff:
        assert [int(page.tags[339].value) for page in tiff.pages] == [expected] * 12
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
