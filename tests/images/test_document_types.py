"""OME-XML that has a document type of its own is no OME-XML: it is neither expanded nor fetched."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from exactile.images import open_source
from exactile.images.ome_planes import OmeError, read_ome

IMAGE = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Image ID="Image:0" Name="{name}"><Description>{name}</Description>'
    '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="16" SizeY="16" SizeZ="1" '
    'SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1" Name="{name}"/>'
    "<TiffData/></Pixels></Image></OME>"
)

GROWING = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))

TYPES = {
    "entities that grow": f'<!DOCTYPE x [<!ENTITY a0 "lol">{GROWING}]>',
    "a file": '<!DOCTYPE x [<!ENTITY a11 SYSTEM "file://{secret}">]>',
    "an address": '<!DOCTYPE x [<!ENTITY a11 SYSTEM "http://127.0.0.1:9/x">]>',
    "a type elsewhere": '<!DOCTYPE x SYSTEM "file://{secret}"><!-- &a11; -->',
}


@pytest.mark.parametrize("kind", TYPES)
def test_it_is_ignored_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("precious")
    declared = TYPES[kind].replace("{secret}", str(secret))
    xml = f'<?xml version="1.0"?>{declared}{IMAGE.format(name="&a11;")}'
    path = tmp_path / "a.ome.tif"
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    tifffile.imwrite(path, pixels, tile=(16, 16), description=xml, metadata=None)
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING), open_source(path) as source:
        assert np.array_equal(source.read_chunk(source.planes[0], 0, 0, 0), pixels)
        assert "precious" not in str(source.metadata)
    assert time.monotonic() - begun < 20
    assert "has a document type of its own" in caplog.text


def test_what_says_which_planes_there_are_does_not_parse_it_either() -> None:
    sizes = IMAGE.format(name="a").replace('SizeZ="1"', 'SizeZ="&z;"')
    with pytest.raises(OmeError, match="has a document type of its own"):
        read_ome(f'<!DOCTYPE x [<!ENTITY z "1">]>{sizes}')
