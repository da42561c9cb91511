"""What a chunk of Zarr inflates to is bounded by its pixels, in every codec, in shards too."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path

import google_crc32c
import numcodecs
import numpy as np
import pytest
import zarr
from image_kinds import ngff_attributes
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr.codecs import numcodecs as of_numcodecs

from exactile.errors import ImageError
from exactile.geometry import Box
from exactile.images import Plane, open_source
from exactile.images.zarr_bounded import InflatedError, inflate

SIDE, BOMB = 16, 2**24

CODECS_2 = {
    "blosc": numcodecs.Blosc("zstd"),
    "bz2": numcodecs.BZ2(),
    "gzip": numcodecs.GZip(),
    "lz4": numcodecs.LZ4(),
    "lzma": numcodecs.LZMA(),
    "zlib": numcodecs.Zlib(),
    "zstd": numcodecs.Zstd(),
}


def codec_3(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kinds = {
            "blosc": BloscCodec,
            "gzip": GzipCodec,
            "zstd": ZstdCodec,
            "numcodecs.blosc": of_numcodecs.Blosc,
            "numcodecs.bz2": of_numcodecs.BZ2,
            "numcodecs.gzip": of_numcodecs.GZip,
            "numcodecs.lz4": of_numcodecs.LZ4,
            "numcodecs.lzma": of_numcodecs.LZMA,
            "numcodecs.zlib": of_numcodecs.Zlib,
            "numcodecs.zstd": of_numcodecs.Zstd,
        }
        return kinds[name]()


def write(path: Path, side: int, zarr_format: int, **options) -> None:
    """Write an image of one chunk, or of one shard, of zeros but for one."""
    version = "0.4" if zarr_format == 2 else "0.5"
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    group.attrs.update(ngff_attributes("yx", version))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"chunks": (side, side), **options}
        array = group.create_array("full", shape=(side, side), dtype=np.uint8, **options)
        pixels = np.zeros((side, side), np.uint8)
        pixels[1, 2] = 3
        array[...] = pixels


def read(path: Path) -> np.ndarray:
    with open_source(path) as source:
        return source.read(Plane(0, 0), (0,), Box.of_shape(source.shape))[0]


def refuse(path: Path) -> None:
    with pytest.raises(ImageError, match=r"inflates to more than|at most \d+ bytes"):
        read(path)


def only_file(path: Path) -> Path:
    """Return the only chunk, or shard of them."""
    files = (file for file in (path / "full").rglob("*") if file.is_file())
    (chunk,) = (file for file in files if file.name in ("0", "0.0"))
    return chunk


def explode(tmp_path: Path, zarr_format: int, **options) -> Path:
    """Return an image of a small chunk whose file is that of a large one."""
    small, large = tmp_path / "a.ome.zarr", tmp_path / "large.ome.zarr"
    write(small, SIDE, zarr_format, **options)
    assert read(small)[1, 2] == 3
    side = int(BOMB**0.5)
    write(large, side, zarr_format, **options)
    only_file(small).write_bytes(only_file(large).read_bytes())
    return small


@pytest.mark.parametrize("name", CODECS_2)
def test_a_chunk_of_zarr_2_inflates_to_its_pixels_at_most(tmp_path, name):
    refuse(explode(tmp_path, 2, compressors=CODECS_2[name]))


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_filter_inflates_to_its_pixels_at_most(tmp_path, name):
    options = {"compressors": None, "filters": [numcodecs.Delta("u1"), CODECS_2[name]]}
    refuse(explode(tmp_path, 2, **options))


@pytest.mark.parametrize("name", ["blosc", "gzip", "zstd", *(f"numcodecs.{n}" for n in CODECS_2)])
def test_a_chunk_of_zarr_3_inflates_to_its_pixels_at_most(tmp_path, name):
    refuse(explode(tmp_path, 3, compressors=codec_3(name)))


@pytest.mark.parametrize("name", ["blosc", "gzip", "zstd"])
def test_a_chunk_in_a_shard_inflates_to_its_pixels_at_most(tmp_path, name):
    path = tmp_path / "a.ome.zarr"
    options = {"compressors": codec_3(name), "shards": (2 * SIDE, 2 * SIDE), "chunks": (SIDE, SIDE)}
    write(path, 2 * SIDE, 3, **options)
    assert read(path)[1, 2] == 3
    bomb = bytes(numcodecs.get_codec({"id": name}).encode(bytes(BOMB)))
    index = np.full(8, 2**64 - 1, "<u8")  # where each of four chunks begins, and its length
    index[:2] = 0, len(bomb)
    digest = google_crc32c.value(index.tobytes()).to_bytes(4, "little")
    only_file(path).write_bytes(bomb + index.tobytes() + digest)
    refuse(path)


def test_a_frame_of_zstd_that_does_not_say_its_size_is_bounded():
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + bytes.fromhex("010000") + b""
    assert bytes(inflate(numcodecs.Zstd(), frame, 10)) == b""
    # A block of one byte, repeated 2**17 times; the last of them.
    repeated = b"\x28\xb5\x2f\xfd\x00\x58" + ((2**17 << 3) | 2 | 1).to_bytes(3, "little") + b"a"
    assert bytes(inflate(numcodecs.Zstd(), repeated, 2**17)) == b"a" * 2**17
    with pytest.raises(ValueError, match="at most 1000 bytes"):
        inflate(numcodecs.Zstd(), repeated, 1000)


@pytest.mark.parametrize("name", ["gzip", "bz2"])
def test_members_of_a_chunk_are_inflated_one_after_the_other(name):
    codec = CODECS_2[name]
    data = bytes(codec.encode(b"first,")) + bytes(codec.encode(b"second"))
    assert inflate(codec, data, 100) == b"first,second"
    with pytest.raises(InflatedError):
        inflate(codec, data, 11)


@pytest.mark.parametrize("name", ["bz2", "gzip", "lzma", "zlib"])
def test_a_chunk_that_was_cut_is_not_a_shorter_one(name):
    codec = CODECS_2[name]
    data = bytes(codec.encode(np.random.default_rng(0).bytes(1000)))
    with pytest.raises((ValueError, EOFError), match="ends before"):
        inflate(codec, data[:-20], 2000)


@pytest.mark.parametrize("name", CODECS_2)
def test_what_inflates_too_far_takes_no_memory_for_it(name):
    bomb = bytes(CODECS_2[name].encode(bytes(2**25)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"inflates to more than|at most \d+ bytes"):
            inflate(CODECS_2[name], bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < 2**24  # the dictionary of LZMA has half of it
    finally:
        tracemalloc.stop()
