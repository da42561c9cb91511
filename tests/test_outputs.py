"""What comes out: files that other programs open, in the place and the shape of what went in."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ome_types
import pytest
import tifffile
import torch
from bfio import BioReader
from conftest import noise_image, write_image, write_random_model
from numpy.typing import NDArray
from program import arguments, call, results_in

from exactile.engines.eager import make_engine
from exactile.finishing import OutputType
from exactile.images import PhysicalSize
from exactile.models.loading import load_model
from exactile.reference import whole_image_pass

NAME = "image.ome.tif"

# Validation against the schema needs one of these; the model itself is checked without.
_CAN_VALIDATE = any(importlib.util.find_spec(name) for name in ("lxml", "xmlschema"))


def segment(tmp_path: Path, model: Path, name: str = NAME, **options: object) -> Path:
    """Run the program on what is in `tmp_path`/in, and return the output called `name`."""
    ended = call(arguments(tmp_path / "in", tmp_path / "out", model=model, **options))
    assert ended.code == 0, ended.log
    return tmp_path / "out" / name


def reference(model: Path, pixels: NDArray[Any], output: OutputType = "logits") -> NDArray[Any]:
    loaded = load_model(model)
    engine = make_engine(loaded.network, torch.device("cpu"), "float32")
    return whole_image_pass(engine, loaded, pixels.reshape(-1, *pixels.shape[-2:]), output)


def ome_of(path: Path) -> ome_types.OME:
    with tifffile.TiffFile(path) as tiff:
        assert tiff.ome_metadata is not None
        return ome_types.from_xml(tiff.ome_metadata, validate=_CAN_VALIDATE)


@pytest.mark.parametrize("output", ["labels", "probabilities", "logits"])
@pytest.mark.parametrize("shape", [(1, 1), (17, 300), (1030, 1100)])
def test_bfio_and_tifffile_open_the_output_with_shape_dtype_and_values(
    tmp_path: Path, small_model: Path, shape: tuple[int, int], output: OutputType
) -> None:
    pixels = noise_image(shape)
    write_image(tmp_path / "in" / NAME, pixels)
    path = segment(tmp_path, small_model, outputType=output)
    expected = reference(small_model, pixels, output)
    channels, dtype = (1, np.uint8) if output == "labels" else (2, np.float32)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.series[0].kind == "ome"
        assert tiff.series[0].dtype == dtype
        found = tiff.asarray().reshape(channels, *shape)
        assert np.array_equal(found, expected)
        assert tiff.pages[0].tile == (1024, 1024)
    with BioReader(path) as reader:
        assert reader._backend_name == "python"
        assert (*shape, 1, channels, 1) == (reader.Y, reader.X, reader.Z, reader.C, reader.T)
        assert reader.dtype == dtype
        found = reader[:].reshape(*shape, channels).transpose(2, 0, 1)
        assert np.array_equal(found, expected)


def test_the_ome_xml_is_valid_and_keeps_size_names_and_extent(
    tmp_path: Path, small_model: Path
) -> None:
    size = {"x": PhysicalSize(0.65), "y": PhysicalSize(650, "nm"), "z": PhysicalSize(2.5)}
    names = ("phase <contrast>", "µ-tubuli")
    write_image(
        tmp_path / "in" / NAME, noise_image((2, 1, 40, 50)), **size, channels=names, name="well A&1"
    )
    path = segment(tmp_path, small_model, channel=1)
    image = ome_of(path).images[0]
    assert image.name == "well A&1"
    pixels = image.pixels
    assert (pixels.size_x, pixels.size_y, pixels.size_c) == (50, 40, 1)
    assert pixels.type.value == "uint8"
    assert [channel.name for channel in pixels.channels] == ["µ-tubuli"]
    for axis, expected in size.items():
        assert getattr(pixels, f"physical_size_{axis}") == expected.value
        assert getattr(pixels, f"physical_size_{axis}_unit").value == expected.unit
    with BioReader(path) as reader:
        assert reader.ps_x[0] == 0.65
        assert reader.ps_y[0] == 650
        assert reader.cnames == ["µ-tubuli"]


@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_channels_of_scores_are_named_after_the_classes(
    tmp_path: Path, small_model: Path, output: str
) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((40, 50)), channels=("phase contrast",))
    path = segment(tmp_path, small_model, outputType=output)
    names = [channel.name for channel in ome_of(path).images[0].pixels.channels]
    assert names == ["class 0", "class 1"]
    assert ome_of(path).images[0].pixels.physical_size_x == 0.65


def test_labels_from_several_channels_name_them_all(tmp_path: Path) -> None:
    write_random_model(tmp_path / "model", channels=2, depth=1, base_width=2)
    pixels = noise_image((3, 1, 40, 50))
    write_image(tmp_path / "in" / NAME, pixels, channels=("red", "green", "blue"))
    path = segment(tmp_path, tmp_path / "model", channel="2,0")
    assert [c.name for c in ome_of(path).images[0].pixels.channels] == ["blue+red"]
    expected = reference(tmp_path / "model", pixels[[2, 0]], "labels")
    assert np.array_equal(tifffile.imread(path), expected[0])


def test_without_names_or_sizes_none_are_made_up(tmp_path: Path, small_model: Path) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((40, 50)), x=None, y=None, name="")
    image = ome_of(segment(tmp_path, small_model)).images[0]
    assert image.name is None
    assert image.pixels.channels[0].name is None
    assert image.pixels.physical_size_x is None


@pytest.mark.parametrize("output", ["labels", "probabilities"])
def test_two_runs_and_two_tile_sizes_give_the_same_bytes_and_certificates(
    tmp_path: Path, output: str
) -> None:
    write_random_model(tmp_path / "model", depth=2, convolutions=1, base_width=8)
    write_image(tmp_path / "in" / NAME, noise_image((700, 600)))
    files, certificates = [], []
    for name, tile in (("a", 256), ("b", 256), ("c", 384)):
        words = arguments(
            tmp_path / "in",
            tmp_path / name,
            model=tmp_path / "model",
            outputType=output,
            tileSize=tile,
        )
        assert call(words).code == 0
        files.append((tmp_path / name / NAME).read_bytes())
        text = (tmp_path / name / "certificates" / f"{NAME}.json").read_text()
        certificate = json.loads(text)
        # The seal is of all that it says, the seconds and the folder too.
        del certificate["seconds"], certificate["settings"]["outDir"], certificate["sha256"]
        certificates.append(certificate)
    assert certificates[0] == certificates[1]
    assert certificates[0]["bit_stability"]["equal"]
    assert files[0] == files[1]
    assert files[0] == files[2]


def write_plain(path: Path, pixels: NDArray[Any], **options: Any) -> None:
    path.parent.mkdir()
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", "metadata": None, **options})


LAYOUTS: dict[str, dict[str, Any]] = {
    "one_strip": {},
    "strips": {"rowsperstrip": 7},
    "strips_lzw": {"rowsperstrip": 16, "compression": "lzw"},
    "tiles": {"tile": (64, 48), "compression": "zlib"},
    "tiles_of_2048": {"tile": (2048, 2048), "compression": "zstd"},
    "big_endian": {"byteorder": ">"},
    "big_endian_tiles": {"byteorder": ">", "tile": (32, 32), "predictor": True},
    "bigtiff": {"bigtiff": True, "tile": (128, 128)},
    "imagej": {"imagej": True, "metadata": {}},
}
LAYOUTS["big_endian_tiles"]["compression"] = "zlib"


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_plain_tiff_of_any_layout_is_segmented(
    tmp_path: Path, small_model: Path, options: dict[str, Any]
) -> None:
    pixels = noise_image((211, 340))
    write_plain(tmp_path / "in" / "image.tif", pixels, **options)
    path = segment(tmp_path, small_model, filePattern=r".*\.tif", outputType="logits")
    assert np.array_equal(tifffile.imread(path), reference(small_model, pixels))


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
)
@pytest.mark.parametrize("write", [write_image, write_plain])
def test_pixels_of_any_type_are_segmented(
    tmp_path: Path, small_model: Path, write: Callable[..., Any], dtype: str
) -> None:
    """Signed ones go below zero, so that taking them for unsigned would show."""
    pixels = noise_image((120, 130), dtype=np.int64) // 40
    if not dtype.startswith("u"):
        pixels -= 60
    pixels = pixels.astype(dtype)
    write(tmp_path / "in" / NAME, pixels)
    path = segment(tmp_path, small_model, outputType="logits")
    assert np.array_equal(tifffile.imread(path), reference(small_model, pixels))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_one_sample_of_an_rgb_image_is_chosen_by_channel(
    tmp_path: Path, small_model: Path, planar: str
) -> None:
    pixels = noise_image((3, 120, 130), dtype=np.int64).astype(np.uint8)
    stored = pixels if planar == "separate" else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    write_plain(tmp_path / "in" / NAME, stored, photometric="rgb", planarconfig=planar)
    path = segment(tmp_path, small_model, channel=2, outputType="logits")
    assert np.array_equal(tifffile.imread(path), reference(small_model, pixels[2]))


def test_an_rgb_image_is_three_channels(tmp_path: Path) -> None:
    write_random_model(tmp_path / "model", channels=3, depth=1, base_width=2)
    pixels = noise_image((3, 120, 130), dtype=np.int64).astype(np.uint8)
    stored = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    write_plain(tmp_path / "in" / NAME, stored, photometric="rgb", tile=(64, 64))
    path = segment(tmp_path, tmp_path / "model", outputType="logits")
    assert np.array_equal(tifffile.imread(path), reference(tmp_path / "model", pixels))


@pytest.mark.parametrize("output", ["labels", "probabilities"])
def test_every_plane_of_a_stack_comes_out_in_its_place(
    tmp_path: Path, small_model: Path, output: OutputType
) -> None:
    """Planes differ in brightness, so that statistics of another plane would show."""
    shape = (2, 1, 3, 90, 110)
    pixels = noise_image(shape) * np.arange(1, 7, dtype=np.uint16).reshape(2, 1, 3, 1, 1)
    write_image(tmp_path / "in" / NAME, pixels)
    path = segment(tmp_path, small_model, outputType=output)
    channels = 1 if output == "labels" else 2
    with BioReader(path) as reader:
        assert (3, channels, 2) == (reader.Z, reader.C, reader.T)
        found = reader[:].reshape(90, 110, 3, channels, 2).transpose(4, 3, 2, 0, 1)
    for t in range(2):
        for z in range(3):
            expected = reference(small_model, pixels[t, :, z], output)
            assert np.array_equal(found[t, :, z], expected), (t, z)


def test_many_images_keep_their_names_and_one_dtype(tmp_path: Path, small_model: Path) -> None:
    names = ["a.ome.tif", "b.ome.tiff", "c with space.ome.tif", "x01_y02.ome.tif"]
    for seed, name in enumerate(names):
        write_image(tmp_path / "in" / name, noise_image((30 + seed, 40), seed))
    segment(tmp_path, small_model)
    certificates = [f"certificates/{name}.json" for name in names]
    assert results_in(tmp_path / "out") == sorted(names + certificates)
    for seed, name in enumerate(names):
        found = tifffile.imread(tmp_path / "out" / name)
        assert (found.shape, found.dtype) == ((30 + seed, 40), np.uint8)
