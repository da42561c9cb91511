"""What a Zarr may ask for to decode its chunks: an allow-list, checked before zarr opens it.

zarr and numcodecs make a codec of whatever name a folder has in its metadata: of their own, or of
any installed package. Some of these run code that a chunk holds (`pickle`), others make objects of
any kind. Pixels need none of them. Every document of the folder is checked before zarr sees it, and
the array, with the codecs that zarr made of it, before the first chunk is read.

    Zarr 2    `compressor` and `filters` by their `id`
    Zarr 3    `codecs` by their `name`, those inside of shards too; `chunk_key_encoding`,
              `chunk_grid` and `storage_transformers`
    both      types of numbers, for the array and for the codecs that name one
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

import zarr

from exactile.errors import ImageError
from exactile.images.zarr_documents import DocumentError, read_document

_BYTES = """
adler32 blosc bz2 crc32 crc32c fletcher32 gzip jenkins_lookup3 lz4 lzma shuffle zlib zstd
"""
BYTES = frozenset(_BYTES.split())
"""Codecs of numcodecs that make bytes of bytes."""

_NUMBERS = """
astype bitround delta fixedscaleoffset packbits pcodec quantize zfpy
"""
NUMBERS = frozenset(_NUMBERS.split())
"""Codecs of numcodecs that make numbers of numbers."""

OF_ZARR_2 = BYTES | NUMBERS

_OF_ZARR_3 = "blosc bytes crc32c endian gzip sharding_indexed transpose zstd"
OF_ZARR_3 = {*_OF_ZARR_3.split(), *(f"numcodecs.{name}" for name in OF_ZARR_2)}

TYPE = re.compile(r"[<>|=]?[biufcmMSUV]\d+(?:\[\w+\])?|bool|u?int\d+|float\d+|complex\d+", re.ASCII)
"""Types of numbers, times and texts of one size; never objects."""

TYPED = ("dtype", "astype", "encode_dtype", "decode_dtype")
"""What codecs call a type in their configuration."""

DOCUMENTS = (".zarray", ".zmetadata", "zarr.json")

DEPTH, MOST = 8, 10_000
"""Groups in groups, and folders, that are looked at; images of OME-NGFF have three and few."""


def check_documents(path: Path) -> None:
    """See that no document of the Zarr in the folder `path` asks for another codec.

    Documents that cannot be used are left to the reader, which refuses them by the same rules.

    Raises:
        ImageError: if one does.
    """
    folders, seen = [(path, 0)], 0
    while folders:
        folder, depth = folders.pop()
        seen += 1
        for name in DOCUMENTS:
            for node in _nodes(_read(folder / name)):
                _check_node(node, path)
        if depth < DEPTH and seen < MOST and not _is_array(folder):
            folders += [(inner, depth + 1) for inner in _folders(folder)]


def check_array(path: Path, array: zarr.Array[Any]) -> None:
    """See that an array that zarr opened, in the folder `path`, asks for no other codec.

    Raises:
        ImageError: if it does.
    """
    _check_node(array.metadata.to_dict(), path)


def _read(document: Path) -> Any:
    try:
        return read_document(document)
    except DocumentError:
        return None


def _is_array(folder: Path) -> bool:
    document = _read(folder / "zarr.json")
    return (folder / ".zarray").is_file() or (
        isinstance(document, dict) and document.get("node_type") == "array"
    )


def _folders(folder: Path) -> list[Path]:
    try:
        return [inner for inner in folder.iterdir() if inner.is_dir()]
    except OSError:
        return []


def _nodes(document: Any) -> Iterable[Mapping[str, Any]]:
    """Yield what describes an array: the document, or parts of one that speaks of many."""
    if not isinstance(document, Mapping):
        return
    yield document
    consolidated = document.get("consolidated_metadata")
    for many in (document, consolidated if isinstance(consolidated, Mapping) else {}):
        nodes = many.get("metadata")
        if isinstance(nodes, Mapping):
            yield from (node for node in nodes.values() if isinstance(node, Mapping))


def _check_node(node: Mapping[str, Any], path: Path) -> None:
    """Check what describes an array; other nodes have nothing of it."""
    for given in (node.get("dtype"), node.get("data_type")):
        if given is not None and not TYPE.fullmatch(str(given)):
            raise _refused(path, f"pixels of the type {_short(given)}")
    for codec in [node.get("compressor"), *_list(node.get("filters"))]:
        if codec is not None:
            _check_codec(codec, "id", OF_ZARR_2, path)
    for codec in _list(node.get("codecs")):
        _check_codec(codec, "name", OF_ZARR_3, path)
    if _list(node.get("storage_transformers")):
        raise _refused(path, "storage transformers")
    for field, names in (("chunk_key_encoding", ("default", "v2")), ("chunk_grid", ("regular",))):
        if field in node and _name(node[field], "name") not in names:
            raise _refused(path, f"the {field.replace('_', ' ')} {_short(node[field])}")


def _check_codec(codec: Any, key: str, allowed: Set[str], path: Path) -> None:
    name = _name(codec, key)
    if name not in allowed:
        raise _refused(path, f"the codec {_short(codec if name is None else name)}")
    configuration = codec.get("configuration", codec) if isinstance(codec, Mapping) else {}
    if not isinstance(configuration, Mapping):
        raise _refused(path, f"the codec {_short(codec)}")
    for field in TYPED:
        if configuration.get(field) is not None and not TYPE.fullmatch(str(configuration[field])):
            raise _refused(path, f"a codec for the type {_short(configuration[field])}")
    for inner in ("codecs", "index_codecs"):
        for each in _list(configuration.get(inner)):
            _check_codec(each, "name", OF_ZARR_3, path)


def _name(given: Any, key: str) -> str | None:
    """Return the name of something that is a name, or has one under `key`."""
    name = given.get(key) if isinstance(given, Mapping) else given
    return name if isinstance(name, str) else None


def _list(given: Any) -> list[Any]:
    """Return what is listed; what should be a list and is not is one thing that is refused."""
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _short(given: Any) -> str:
    return repr(given)[:60]


def _refused(path: Path, asked: str) -> ImageError:
    return ImageError(
        f"{path} asks for {asked}, which images do not need and which may run what a file holds; "
        "write it again with "
        "blosc, zstd, gzip, zlib or lz4"
    )
