"""Chunks of Zarr are inflated to what an array's metadata speak of, and no further.

A file of a megabyte can inflate to many gigabytes, by damage or on purpose. Codecs take memory for
whatever comes out, or for what a chunk says of itself. Here a chunk that would be larger than its
pixels can be is refused before, in every codec that inflates: of Zarr 2 by `bound_array`, of Zarr 3
by what is registered with zarr when this module is imported, in shards too. Pixels are the same.
"""

from __future__ import annotations

import asyncio
import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import imagecodecs
import numcodecs  # type: ignore[import-untyped]
import zarr
from numcodecs.abc import Codec  # type: ignore[import-untyped]
from numcodecs.compat import ensure_bytes  # type: ignore[import-untyped]
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr.codecs import numcodecs as of_numcodecs
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer
from zarr.registry import register_codec

_ROOM = 2**20
_WIDEST = 8
"""Bytes of the largest number that a filter makes of a pixel."""

_SINGLE_SEGMENT = 0x20
_ZSTD = b"\x28\xb5\x2f\xfd"


class InflatedError(ValueError):
    """A chunk is larger than its pixels."""

    def __init__(self, most: int) -> None:
        super().__init__(f"a chunk inflates to more than the {most} bytes that its pixels can have")


def most_bytes(pixels: int, size: int) -> int:
    """Return more than so many pixels of so many bytes have at any step of decoding."""
    return 2 * pixels * size + _ROOM


def inflate(codec: Codec, data: bytes, most: int) -> Any:
    """Return what `codec` makes of `data`, at most `most` bytes of it. Raises InflatedError."""
    streamed = _STREAMED.get(codec.codec_id)
    if streamed is not None:
        return _inflated(lambda: streamed(codec), data, most)
    if codec.codec_id == "zstd" and _zstd_size(data) is None:
        try:
            return imagecodecs.zstd_decode(data, out=most)
        except imagecodecs.ZstdError as error:
            raise ValueError(f"{error}; at most {most} bytes are decoded") from error
    said = _SAID.get(codec.codec_id, len)(data)
    if said is not None and said > most:
        raise InflatedError(most)
    return codec.decode(data)


def bound_array(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """Return an array of Zarr 2 whose codecs are bounded; others are, and returned as they are."""
    metadata = array.metadata
    if metadata.zarr_format != 2:
        return array
    size = _WIDEST if metadata.filters else array.dtype.itemsize
    most = most_bytes(prod(array.chunks), max(size, array.dtype.itemsize))
    bounded = replace(
        metadata,
        compressor=_bounded(metadata.compressor, most),
        filters=tuple(_bounded(each, most) for each in metadata.filters or ()) or None,
    )
    return zarr.Array(zarr.AsyncArray(metadata=bounded, store_path=array.store_path))


class _BoundedCodec(Codec):  # type: ignore[misc]
    """A codec of Zarr 2 that inflates to so many bytes at most."""

    codec_id = ""

    def __init__(self, codec: Codec, most: int) -> None:
        self.codec_id = codec.codec_id
        self._codec, self._most = codec, most

    def encode(self, buf: Any) -> Any:
        return self._codec.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        return inflate(self._codec, ensure_bytes(buf), self._most)

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = self._codec.get_config()
        return config


def _bounded(codec: Any, most: int) -> Any:
    inflates = codec is not None and (codec.codec_id in _STREAMED or codec.codec_id in _SAID)
    return _BoundedCodec(codec, most) if inflates else codec


class _Bounded(BytesBytesCodec):
    """What codecs of Zarr 3 do otherwise, whether they are called one by one or by a loop."""

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        described: Mapping[str, Any] = self.to_dict()
        name = str(described["name"]).removeprefix("numcodecs.")
        # How bytes are made smaller is told by them, but for LZMA.
        more = described.get("configuration", {}) if name == "lzma" else {}
        size = chunk_spec.dtype.to_native_dtype().itemsize
        most = most_bytes(prod(chunk_spec.shape), size)
        decoded = inflate(numcodecs.get_codec({"id": name, **more}), chunk_bytes.to_bytes(), most)
        return chunk_spec.prototype.buffer.from_bytes(ensure_bytes(decoded))

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        return await asyncio.to_thread(self._decode_sync, chunk_bytes, chunk_spec)


def _inflated(start: Callable[[], Any], data: bytes, most: int) -> bytes:
    """Return the members that `data` holds, one after the other, decompressed."""
    parts: list[bytes] = []
    room = most
    while data:
        member = start()
        while not member.eof:
            part = member.decompress(data, room + 1)
            data = getattr(member, "unconsumed_tail", b"")
            room -= len(part)
            parts.append(part)
            if room < 0:
                raise InflatedError(most)
            if not part and not data and not member.eof:
                raise ValueError("a chunk ends before its pixels do")
        data = member.unused_data
        if not data.strip(b"\0"):
            break
    return b"".join(parts)


def _zstd_size(data: bytes) -> int | None:
    """Return how many bytes a frame says that it has; None where it does not say."""
    if data[:4] != _ZSTD or len(data) < 5:
        return None
    descriptor = data[4]
    single = bool(descriptor & _SINGLE_SEGMENT)
    width = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    start = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    if not width or len(data) < start + width:
        return None
    return int.from_bytes(data[start : start + width], "little") + (256 if width == 2 else 0)


def _lzma(codec: Any) -> lzma.LZMADecompressor:
    raw = codec.format == lzma.FORMAT_RAW
    return lzma.LZMADecompressor(
        format=codec.format, memlimit=None if raw else 2**28, filters=codec.filters if raw else None
    )


_STREAMED: Mapping[str, Callable[[Any], Any]] = {
    "gzip": lambda _: zlib.decompressobj(16 + zlib.MAX_WBITS),
    "zlib": lambda _: zlib.decompressobj(),
    "bz2": lambda _: bz2.BZ2Decompressor(),
    "lzma": _lzma,
}
"""What decompresses as far as it is told."""

_SAID: Mapping[str, Callable[[bytes], int | None]] = {
    "blosc": lambda data: int.from_bytes(data[4:8], "little"),
    "lz4": lambda data: int.from_bytes(data[:4], "little"),
    "zstd": _zstd_size,
}
"""How many bytes a chunk says that it has, which is what its codec takes memory for."""

_OF_ZARR_3: Mapping[str, type[BytesBytesCodec]] = {
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


def _register() -> None:
    chosen = dict(zarr.config.get("codecs"))
    for name, base in _OF_ZARR_3.items():
        kind = type(f"Bounded{base.__name__}", (_Bounded, base), {"__module__": __name__})
        qualified = f"{kind.__module__}.{kind.__qualname__}.{name}"
        register_codec(name, kind, qualname=qualified)
        chosen[name] = qualified
    zarr.config.set({"codecs": chosen})


_register()
