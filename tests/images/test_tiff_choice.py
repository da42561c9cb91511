"""Which image of a file is read, where it holds several: slides above all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from tiff_files import block, noise, ome, ome_image, read_all, write_pages

from exactile.errors import ImageError
from exactile.images import open_source

RGB = noise(200, 300, 3, dtype="uint8")
AS_READ = np.moveaxis(RGB, -1, 0)[None, :, None]
SMALL = RGB[::5, ::5]
REDUCED, MASK = 1, 4


def write(path: Path, *pages: tuple[np.ndarray, str, int], tiled: bool = True) -> Path:
    """Write pages, each with its description and its kind (NewSubfileType)."""
    with tifffile.TiffWriter(path, ome=False) as writer:
        for pixels, text, kind in pages:
            writer.write(
                pixels,
                description=text.encode() or None,
                subfiletype=kind,
                tile=(64, 64) if tiled and pixels is not SMALL else None,
                photometric="rgb" if pixels.ndim == 3 else "minisblack",
                metadata=None,
            )
    return path


APERIO = "Aperio Image Library v11.2.1 \r\n300x200 (64x64) Q=70|AppMag = 20|MPP = 0.4990"
SCN = """<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">
<collection name="c" sizeX="1000" sizeY="1000">{}</collection></scn>"""
SCN_IMAGE = """<image name="{name}"><pixels sizeX="1" sizeY="1"><dimension r="0" ifd="{page}"/>
</pixels><view sizeX="150000" sizeY="100000" offsetX="10" offsetY="20"/></image>"""


def scn(*names: str) -> str:
    images = (SCN_IMAGE.format(name=name, page=page) for page, name in enumerate(names))
    return SCN.format("".join(images))


SLIDES = {
    "thumbnail_first.tif": [(SMALL, "", REDUCED), (RGB, "", 0)],
    "mask_after.tif": [(RGB, "", 0), (RGB[..., 0], "", REDUCED)],
    "smaller_page_first.tif": [(SMALL, "", 0), (RGB, "", 0)],
    "aperio.svs": [
        (RGB, APERIO, 0),
        (SMALL, "Aperio thumbnail", 0),
        (RGB[::2, ::2], APERIO, 0),
        (SMALL, "Aperio label", REDUCED),
        (SMALL, "Aperio macro", 9),
    ],
    "leica.scn": [(SMALL, scn("macro", "scan"), 0), (RGB, "", 0)],
    "levels.tif": [(RGB, "", 0), (RGB[::2, ::2], "", 0), (RGB[::4, ::4], "", REDUCED)],
}


@pytest.mark.parametrize("name", SLIDES)
def test_of_a_slide_the_specimen_is_read(tmp_path, name):
    np.testing.assert_array_equal(read_all(write(tmp_path / name, *SLIDES[name])), AS_READ)


def test_the_image_below_a_thumbnail_is_read(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, ome=False) as writer:
        options = {"photometric": "rgb", "metadata": None}
        writer.write(SMALL, subifds=1, subfiletype=REDUCED, **options)
        writer.write(RGB, **options)
    np.testing.assert_array_equal(read_all(path), AS_READ)


def test_label_and_overview_before_the_image_are_passed_by(tmp_path, caplog):
    path = tmp_path / "slide.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for name, pixels in (("label", SMALL), ("overview", SMALL[::2]), ("20x", RGB)):
            axes = {"axes": "YXS", "Name": name, "PhysicalSizeX": len(name)}
            writer.write(pixels, photometric="rgb", metadata=axes)
    np.testing.assert_array_equal(read_all(path), AS_READ)
    with open_source(path) as source:
        said = "3 of 3: '20x' (300 x 200); not read: 'label' (60 x 40), 'overview' (60 x 20)"
        assert source.series == said
        assert source.metadata.name == "20x"
        assert source.metadata.x is not None
        assert source.metadata.x.value == 3
    assert f"slide.ome.tif: read is image {said}" in caplog.text


@pytest.mark.parametrize(
    "pages",
    [
        [(RGB, "", 0), (RGB[:150, :290], "", 0)],
        [(RGB, scn("region", "other region"), 0), (RGB[:, ::-1], "", 0)],
    ],
)
def test_where_several_could_be_meant_all_are_listed(tmp_path, pages):
    path = write(tmp_path / "a.tif", *pages)
    with pytest.raises(ImageError, match=r"holds 2 images, and it is not said which.*300 x 200"):
        open_source(path)


def test_images_of_a_plate_in_one_file_are_listed(tmp_path):
    images = [ome_image((1, 1, 1), block(i), name=f"A{i}") for i in range(20)]
    path = write_pages(tmp_path / "a.ome.tif", noise(20, 20, 30), ome(*images))
    with pytest.raises(ImageError, match=r"20 images.*'A0' \(30 x 20\), 'A1'.* and 12 more"):
        open_source(path)


def test_a_name_does_not_hide_the_larger_image(tmp_path):
    images = [
        ome_image((1, 1, 1), block(0), name="label"),
        ome_image((1, 1, 1), block(1), name="image", shape=(10, 10)),
    ]
    pages = [noise(20, 30), noise(10, 10)]
    path = write_pages(tmp_path / "a.ome.tif", pages, ome(*images))
    with pytest.raises(ImageError, match="not said which is meant"):
        open_source(path)


@pytest.mark.parametrize(("name", "size"), [("aperio.svs", 0.499), ("leica.scn", 0.5)])
def test_the_size_of_a_slides_pixels_is_kept(tmp_path, name, size):
    with open_source(write(tmp_path / name, *SLIDES[name])) as source:
        assert source.metadata.x is not None
        assert source.metadata.y is not None
        assert (source.metadata.x.value, source.metadata.x.unit) == (pytest.approx(size), "µm")
        assert source.metadata.y.value == pytest.approx(size)
