"""Files of every layout that a source has to read, written from known pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from exactile.images import read_mosaic
from exactile.images.bfio_source import BfioSource
from exactile.images.mosaic_source import MosaicSource
from exactile.images.open import open_source
from exactile.images.raw_source import RawSource
from exactile.images.source import Source
from exactile.images.tifffile_source import TifffileSource
from exactile.images.zarr_source import ZarrSource

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Kind:
    """A way to write pixels (T, C, Z, Y, X), and the source that should read the file."""

    name: str
    reader: type[Source]
    write: Callable[[Path, Pixels], None]
    sizes: tuple[int, int, int, int, int] = (1, 1, 1, 70, 53)
    dtype: str = "uint16"
    file_name: str = "image.tif"
    opened: Callable[..., Source] = open_source
    """What opens the file: path, and the options of `open_source`."""

    def pixels(self) -> Pixels:
        rng = np.random.default_rng(7)
        dtype = np.dtype(self.dtype)
        if dtype.kind == "f":
            return rng.normal(size=self.sizes).astype(dtype)
        limits = np.iinfo(dtype)
        # A gradient under noise compresses somewhat, as images do.
        noise = rng.integers(0, 30, self.sizes)
        gradient = np.linspace(0, 1, self.sizes[-1]) * (min(limits.max, 2**30) - 60)
        return (noise + gradient.astype(np.int64) + max(limits.min, -20)).astype(dtype)


@dataclass(frozen=True)
class WithTifffile:
    """tifffile's writer with fixed options, on pixels rearranged to `axes`."""

    axes: str
    options: dict[str, Any] = field(default_factory=dict)
    named: bool = True

    def __call__(self, path: Path, pixels: Pixels) -> None:
        axes = self.axes.replace("S", "C") if "C" not in self.axes else self.axes
        kept = [a for a in "TCZYX" if a in axes]
        assert all(
            side == 1 for a, side in zip("TCZYX", pixels.shape, strict=True) if a not in kept
        )
        squeezed = pixels.reshape([s for a, s in zip("TCZYX", pixels.shape) if a in kept])  # noqa: B905
        data = np.ascontiguousarray(squeezed.transpose([kept.index(a) for a in axes]))
        options = {"photometric": "minisblack", **self.options}
        metadata = {"axes": self.axes} if self.named else None
        tifffile.imwrite(path, data, metadata=metadata, **options)


@dataclass(frozen=True)
class WithZarr:
    """zarr's writer with fixed options, on pixels rearranged to `axes`; a level besides."""

    version: str
    axes: str = "tczyx"
    chunks: tuple[int, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    group: str = ""

    def __call__(self, path: Path, pixels: Pixels) -> None:
        kept = [axis for axis in "tczyx" if axis in self.axes]
        shape = [side for axis, side in zip("tczyx", pixels.shape, strict=True) if axis in kept]
        data = pixels.reshape(shape).transpose([kept.index(axis) for axis in self.axes])
        root = zarr.open_group(path, mode="a", zarr_format=2 if self.version == "0.4" else 3)
        image = root.create_group(self.group) if self.group else root
        image.attrs.update(ngff_attributes(self.axes, self.version))
        options = {"chunks": self.chunks or tuple(data.shape), **self.options}
        if self.version == "0.5":
            options["dimension_names"] = tuple(self.axes)
        options = {"dtype": data.dtype, "shape": data.shape, **options}
        image.create_array("full", **options)[...] = data
        image.create_array("half", **options)


def ngff_attributes(axes: str, version: str, **others: Any) -> dict[str, Any]:
    """The least that makes an image of two arrays, full and half."""
    types = {"t": "time", "c": "channel"}
    multiscale = {
        "axes": [{"name": axis, "type": types.get(axis, "space")} for axis in axes],
        "datasets": [
            {
                "path": path,
                "coordinateTransformations": [{"type": "scale", "scale": [scale] * len(axes)}],
            }
            for path, scale in (("full", 1.0), ("half", 2.0))
        ],
    }
    if version == "0.4":
        return {"multiscales": [multiscale | {"version": "0.4"}], **others}
    return {"ome": {"version": "0.5", "multiscales": [multiscale], **others}}


def with_bioformats2raw(path: Path, pixels: Pixels) -> None:
    zarr.open_group(path, mode="w", zarr_format=2, attributes={"bioformats2raw.layout": 3})
    WithZarr("0.4", chunks=(1, 1, 1, 64, 64), group="0")(path, pixels)


def with_bfio(path: Path, pixels: Pixels) -> None:
    from bfio import BioWriter

    size_t, size_c, size_z, height, width = pixels.shape
    with BioWriter(path, max_workers=1) as writer:
        writer.X, writer.Y, writer.Z, writer.C, writer.T = width, height, size_z, size_c, size_t
        writer.dtype = pixels.dtype
        writer[:] = pixels.transpose(3, 4, 2, 1, 0)


def as_mosaic(path: Path, pixels: Pixels) -> None:
    """Cut pixels into six files, which overlap by one pixel where they meet, and a vector."""
    height, width = pixels.shape[-2:]
    lines = []
    for y in (0, height // 2):
        for x in (0, width // 3, 2 * width // 3):
            name = f"{y} {x}.ome.tif"
            part = pixels[..., y : y + height // 2 + 1, x : x + width // 3 + 2]
            WithTifffile("TCZYX", {"ome": True, "tile": (32, 48)})(path.parent / name, part)
            lines.append(f"file: {name}; corr: 0; position: ({x}, {y}); grid: (0, 0);\n")
    path.write_text("".join(lines))


def open_mosaic(path: Path, **options: Any) -> MosaicSource:
    return MosaicSource(read_mosaic(path, path.parent), **options)


def _ome(axes: str = "TCZYX", **options: Any) -> WithTifffile:
    return WithTifffile(axes, {"ome": True, **options})


_TILES = {"tile": (1024, 1024)}
_OME = "image.ome.tif"
_WIDE = (1, 1, 1, 1100, 1030)
_STACK = (2, 3, 2, 40, 33)
_RGB = (1, 3, 1, 90, 100)
_BLOSC = {"compressors": numcodecs.Blosc("lz4")}

KINDS = (
    *(
        Kind(
            f"bfio_{compression}",
            BfioSource,
            _ome(**_TILES, compression=compression),
            _WIDE,
            file_name=_OME,
        )
        for compression in (None, "zlib", "lzw", "zstd", "packbits")
    ),
    *(
        Kind(f"bfio_{dtype}", BfioSource, _ome(**_TILES, compression="zlib"), _STACK, dtype, _OME)
        for dtype in (
            "uint8",
            "int8",
            "int16",
            "uint32",
            "int32",
            "float32",
            "float64",
        )
    ),
    Kind("bfio_written_by_bfio", BfioSource, with_bfio, (1, 1, 1, 1100, 60), "uint8", _OME),
    Kind(
        "bfio_big_endian",
        BfioSource,
        _ome(**_TILES, compression="zlib", byteorder=">"),
        _STACK,
        file_name=_OME,
    ),
    Kind(
        "bfio_bigtiff_predictor",
        BfioSource,
        _ome(**_TILES, compression="zlib", bigtiff=True, predictor=True),
        _STACK,
        file_name=_OME,
    ),
    Kind("bfio_tiff_suffix", BfioSource, _ome(**_TILES), file_name="image.ome.tiff"),
    Kind("tiled_plain_name", TifffileSource, _ome(**_TILES), file_name="image.tif"),
    Kind("tiles_of_16", TifffileSource, _ome(tile=(16, 16)), (1, 1, 1, 700, 530), file_name=_OME),
    Kind("tiles_48x32_lzw", TifffileSource, _ome(tile=(48, 32), compression="lzw"), _STACK),
    Kind(
        "tiles_of_2048",
        TifffileSource,
        _ome(tile=(2048, 2048), compression="zlib"),
        _WIDE,
        "uint8",
        _OME,
    ),
    Kind("other_order", TifffileSource, _ome("ZCTYX", **_TILES), _STACK, file_name=_OME),
    Kind(
        "tiles_big_endian_float",
        TifffileSource,
        _ome(tile=(32, 32), compression="zlib", byteorder=">", predictor=True),
        _STACK,
        "float32",
    ),
    Kind("strips_lzw", TifffileSource, WithTifffile("YX", {"compression": "lzw"}, named=False)),
    Kind(
        "strips_of_7_rows",
        TifffileSource,
        WithTifffile("YX", {"compression": "zlib", "rowsperstrip": 7}),
        (1, 1, 1, 1500, 900),
    ),
    Kind(
        "rgb_tiles",
        TifffileSource,
        WithTifffile("YXS", {"tile": (32, 48), "photometric": "rgb", "compression": "zlib"}),
        (1, 3, 1, 90, 100),
        "uint8",
    ),
    Kind(
        "rgb_planar_tiles",
        TifffileSource,
        WithTifffile(
            "ZSYX",
            {
                "tile": (32, 48),
                "photometric": "rgb",
                "planarconfig": "separate",
                "compression": "zlib",
            },
        ),
        (1, 3, 2, 90, 100),
        "uint8",
    ),
    Kind(
        "rgb_ome",
        TifffileSource,
        _ome("ZYXS", **_TILES, photometric="rgb"),
        (1, 3, 2, 90, 100),
        "uint8",
        _OME,
    ),
    Kind("one_strip", RawSource, WithTifffile("YX"), (1, 1, 1, 700, 2300)),
    Kind("one_strip_float", RawSource, WithTifffile("YX"), dtype="float32"),
    Kind("raw_strips_of_7", RawSource, WithTifffile("YX", {"rowsperstrip": 7})),
    Kind("raw_strips_of_7_wide", RawSource, WithTifffile("YX", {"rowsperstrip": 7}), _WIDE),
    Kind("raw_big_endian", RawSource, WithTifffile("YX", {"byteorder": ">"}), dtype="int32"),
    Kind("raw_one_column", RawSource, WithTifffile("YX"), (1, 1, 1, 300, 1)),
    Kind("raw_one_row", RawSource, WithTifffile("YX"), (1, 1, 1, 1, 300), "uint8"),
    Kind("raw_pages", RawSource, WithTifffile("TYX", named=False), (5, 1, 1, 30, 20)),
    Kind("raw_channels", RawSource, WithTifffile("CYX"), (1, 4, 1, 30, 20)),
    Kind(
        "raw_rgb",
        RawSource,
        WithTifffile("ZYXS", {"photometric": "rgb", "rowsperstrip": 7}),
        (1, 3, 2, 30, 20),
        "uint8",
    ),
    Kind(
        "raw_planar",
        RawSource,
        WithTifffile("ZSYX", {"photometric": "rgb", "planarconfig": "separate"}),
        (1, 3, 2, 30, 20),
    ),
    Kind("imagej", RawSource, WithTifffile("TZCYX", {"imagej": True}), _STACK),
    Kind(
        "imagej_one_page_for_all",
        RawSource,
        WithTifffile("TZCYX", {"imagej": True, "truncate": True}),
        _STACK,
    ),
    Kind("one_page_for_all", RawSource, WithTifffile("ZYX", {"truncate": True}), (1, 1, 4, 30, 20)),
    Kind("ome_strips", RawSource, _ome(), _STACK, file_name=_OME),
    *(
        Kind(f"zarr_{name}", ZarrSource, write, sizes, dtype, "image.ome.zarr")
        for name, write, sizes, dtype in (
            ("04_written_by_bfio", with_bfio, (1, 1, 1, 1100, 60), "uint8"),
            ("04_bioformats2raw", with_bioformats2raw, _STACK, "uint16"),
            ("04_blosc", WithZarr("0.4", chunks=(1, 1, 1, 16, 16), options=_BLOSC), _STACK, "int8"),
            ("04_one_chunk_for_all", WithZarr("0.4"), _STACK, "uint16"),
            ("04_chunk_over_channels", WithZarr("0.4", "cyx", (3, 32, 20)), _RGB, "uint8"),
            (
                "04_nested_keys_column_major_big_endian",
                WithZarr(
                    "0.4",
                    chunks=(1, 2, 1, 32, 32),
                    options={
                        "order": "F",
                        "chunk_key_encoding": {"name": "v2", "separator": "/"},
                        "compressors": numcodecs.Zlib(),
                        "dtype": ">i4",
                    },
                ),
                _STACK,
                "int32",
            ),
            ("04_axes_yx", WithZarr("0.4", "yx", (64, 64)), _WIDE, "uint8"),
            ("04_axes_xy", WithZarr("0.4", "xy", (20, 64)), (1, 1, 1, 70, 53), "uint8"),
            ("05_axes_tyx", WithZarr("0.5", "tyx", (2, 64, 64)), (5, 1, 1, 70, 53), "int32"),
            ("05_axes_zyx", WithZarr("0.5", "zyx", (1, 64, 64)), (1, 1, 4, 70, 53), "float32"),
            (
                "05_chunk_larger_than_image",
                WithZarr("0.5", chunks=(1, 1, 1, 99, 99)),
                _STACK,
                "int16",
            ),
            (
                "05_shards",
                WithZarr("0.5", chunks=(1, 1, 1, 16, 16), options={"shards": (1, 1, 1, 32, 64)}),
                _STACK,
                "float64",
            ),
            (
                "05_raw",
                WithZarr("0.5", "czyx", (1, 1, 600, 512), {"compressors": None}),
                _WIDE,
                "uint32",
            ),
        )
    ),
    *(
        Kind(name, MosaicSource, as_mosaic, sizes, dtype, "vector.txt", open_mosaic)
        for name, sizes, dtype in (
            ("mosaic", _WIDE, "uint16"),
            ("mosaic_float", _STACK, "float32"),
        )
    ),
)
