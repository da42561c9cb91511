"""What numbers mean: read as intensities only where they are."""

from __future__ import annotations

import logging
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from tiff_files import noise, overwrite_tag, read_all, write_pages

from exactile.errors import ImageError
from exactile.images import open_source

RGB = noise(48, 64, 3, dtype="uint8")


def refuse(path: Path, match: str) -> None:
    with pytest.raises(ImageError, match=match) as caught:
        open_source(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("number", "match"),
    [
        (0, "stores bright as 0"),
        (4, "a transparency mask"),
        (5, "CMYK"),
        (6, r"YCbCr\) in scheme 1, which is not converted"),
        (8, "CIE L"),
        (32803, "colour filter mosaic"),
        (999, r"unknown kind \(999\)"),
    ],
)
def test_numbers_of_another_kind_are_refused(tmp_path, number, match):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", metadata=None)
    overwrite_tag(path, "PhotometricInterpretation", number)
    refuse(path, match)


def test_jpeg_is_converted_as_its_decoder_does(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, photometric="ycbcr", compression="jpeg", tile=(32, 32))
    np.testing.assert_array_equal(
        read_all(path)[0, :, 0], np.moveaxis(tifffile.imread(path), -1, 0)
    )


def aperio(path: Path, scheme: int, tile: np.ndarray) -> Path:
    """Write one tile of JPEG 2000 in a scheme of Aperio's, whose page says RGB as theirs do."""
    data = imagecodecs.jpeg2k_encode(tile, level=0, codecformat="J2K", mct=False)
    tifffile.imwrite(
        path,
        iter([data]),
        shape=tile.shape,
        dtype=tile.dtype,
        tile=tile.shape[:2],
        photometric="rgb",
        compression=scheme,
        metadata=None,
    )
    return path


def test_aperio_jpeg_2000_of_luminance_and_chrominance_becomes_rgb(tmp_path):
    """What the page calls RGB is not, in scheme 33003; in 33005 it is."""
    stored = np.zeros((16, 16, 3), np.uint8)
    stored[..., 0] = np.arange(256).reshape(16, 16)
    stored[..., 1], stored[..., 2] = 90, 200
    found = read_all(aperio(tmp_path / "a.svs", 33003, stored))[0, :, 0]
    y, blue, red = (stored[..., i].astype(float) - (128 if i else 0) for i in range(3))
    exact = [y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue]
    np.testing.assert_allclose(found, np.clip(exact, 0, 255), atol=0.51)
    found = read_all(aperio(tmp_path / "b.svs", 33005, stored))[0, :, 0]
    np.testing.assert_array_equal(found, np.moveaxis(stored, -1, 0))


def test_a_predictor_without_compression_is_refused(tmp_path):
    path = write_pages(tmp_path / "a.tif", [noise(20, 30)], software="a writer")
    overwrite_tag(path, "Software", 2, code=317)
    refuse(path, "names a predictor without compression")


@pytest.mark.parametrize("ramp", [True, False])
def test_the_numbers_of_a_palette_are_read_and_that_is_said_of_colours(tmp_path, caplog, ramp):
    caplog.set_level(logging.WARNING)
    colours = np.zeros((3, 256), np.uint16)
    colours[1] = np.arange(256) * 257
    if not ramp:
        colours[0] = colours[1, ::-1]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB[..., 0], photometric="palette", colormap=colours, metadata=None)
    np.testing.assert_array_equal(read_all(path)[0, 0, 0], RGB[..., 0])
    assert ("has a palette of colours" in caplog.text) is not ramp
