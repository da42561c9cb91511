"""A Zarr decodes by the codecs of the list, and nothing in a chunk is ever run."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr

from exactile.errors import ImageError
from exactile.images import open_source
from exactile.images.zarr_codecs import OF_ZARR_2, OF_ZARR_3, check_documents

SIDE = 16


class Trap:
    """Creates a file when it is unpickled, and is pixels then."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        code = (
            f"(open({str(self.path)!r}, 'w').close(), __import__('numpy').zeros({SIDE**2}, 'u1'))"
        )
        return (eval, (f"{code}[1]",))


def attributes(path: str = "0") -> dict[str, Any]:
    axes = [{"name": axis, "type": "space"} for axis in "yx"]
    scale = {"type": "scale", "scale": [1.0, 1.0]}
    dataset = {"path": path, "coordinateTransformations": [scale]}
    return {"multiscales": [{"version": "0.4", "axes": axes, "datasets": [dataset]}]}


def write_2(folder: Path, chunk: bytes = b"", **changes: Any) -> Path:
    """Write an OME-Zarr 0.4 of one chunk."""
    (folder / "0" / "0").mkdir(parents=True)
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    (folder / ".zattrs").write_text(json.dumps(attributes()))
    array = {
        "zarr_format": 2,
        "shape": [SIDE, SIDE],
        "chunks": [SIDE, SIDE],
        "dtype": "|u1",
        "compressor": None,
        "fill_value": 0,
        "order": "C",
        "filters": None,
        "dimension_separator": "/",
    }
    (folder / "0" / ".zarray").write_text(json.dumps(array | changes))
    (folder / "0" / "0" / "0").write_bytes(chunk or bytes(SIDE**2))
    return folder


def write_3(folder: Path, **changes: Any) -> Path:
    """Write an OME-Zarr 0.5 of one chunk."""
    (folder / "0" / "c" / "0").mkdir(parents=True)
    ome = {"version": "0.5", "multiscales": attributes()["multiscales"]}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    array = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [SIDE, SIDE],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [SIDE, SIDE]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}],
        "attributes": {},
    }
    (folder / "zarr.json").write_text(json.dumps(group))
    (folder / "0" / "zarr.json").write_text(json.dumps(array | changes))
    (folder / "0" / "c" / "0" / "0").write_bytes(bytes(SIDE**2))
    return folder


def refuse(path: Path, said: str) -> None:
    with pytest.raises(ImageError) as caught, open_source(path) as source:
        source.read_chunk(source.planes[0], 0, 0, 0)
    message = str(caught.value)
    assert message.startswith(f"{path} asks for {said}"), message
    assert "write it again with blosc, zstd, gzip, zlib or lz4" in message


PICKLE = {"id": "pickle", "protocol": 5}

PLACES = {
    "compressor": {"compressor": PICKLE},
    "filter": {"filters": [PICKLE]},
    "filter behind others": {"filters": [{"id": "shuffle", "elementsize": 1}, PICKLE]},
    "filters that are no list": {"filters": PICKLE},
    "compressor of objects": {"compressor": PICKLE, "dtype": "|O"},
}


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let numcodecs unpickle, as its older versions do."""
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("place", PLACES)
def test_chunks_are_not_unpickled(tmp_path: Path, place: str) -> None:
    sprung = tmp_path / "sprung"
    path = write_2(tmp_path / "a.ome.zarr", pickle.dumps(Trap(sprung)), **PLACES[place])
    refuse(path, "")
    assert not sprung.exists()


@pytest.mark.usefixtures("trusting")
def test_the_payload_does_spring_where_chunks_are_trusted(tmp_path: Path) -> None:
    numcodecs.get_codec(PICKLE).decode(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "name",
    ["json2", "msgpack2", "vlen-utf8", "vlen-bytes", "categorize", "PICKLE", "pickle ", "none"],
)
def test_codecs_of_objects_are_refused(tmp_path: Path, name: str) -> None:
    refuse(write_2(tmp_path / "a.ome.zarr", filters=[{"id": name}]), f"the codec {name!r}")


@pytest.mark.parametrize("codec", [{}, {"id": 7}, {"id": ["zlib"]}, 7, ["zlib"], "pickle"])
def test_codecs_without_a_name_are_refused(tmp_path: Path, codec: Any) -> None:
    refuse(write_2(tmp_path / "a.ome.zarr", compressor=codec), "the codec ")


@pytest.mark.parametrize("dtype", ["|O", "O", "object", [["a", "|u1"]], "|u1,|O", {"name": "O"}])
def test_objects_and_records_are_no_pixels(tmp_path: Path, dtype: Any) -> None:
    refuse(write_2(tmp_path / "a.ome.zarr", dtype=dtype), "pixels of the type ")


@pytest.mark.parametrize("field", ["dtype", "astype", "encode_dtype", "decode_dtype"])
def test_a_filter_makes_no_objects(tmp_path: Path, field: str) -> None:
    filters = [{"id": "astype", field: "|O"}]
    refuse(write_2(tmp_path / "a.ome.zarr", filters=filters), "a codec for the type '|O'")


SHARD = {"name": "sharding_indexed"}


def sharded(**inner: Any) -> dict[str, Any]:
    configuration = {
        "chunk_shape": [8, 8],
        "codecs": [{"name": "bytes"}],
        "index_codecs": [{"name": "bytes"}, {"name": "crc32c"}],
    }
    return {"codecs": [SHARD | {"configuration": configuration | inner}]}


ASKED = {
    "a codec": ({"codecs": [{"name": "numcodecs.pickle"}]}, "the codec 'numcodecs.pickle'"),
    "a codec by its name": ({"codecs": ["bytes", "vlen-utf8"]}, "the codec 'vlen-utf8'"),
    "a codec of a shard": (sharded(codecs=[{"name": "pickle"}]), "the codec 'pickle'"),
    "a codec of an index": (sharded(index_codecs=[{"name": "pickle"}]), "the codec 'pickle'"),
    "a shard in a shard": (
        sharded(codecs=sharded(codecs=[{"name": "pickle"}])["codecs"]),
        "the codec 'pickle'",
    ),
    "a key encoding": (
        {"chunk_key_encoding": {"name": "fanout"}},
        "the chunk key encoding {'name': 'fanout'}",
    ),
    "a grid": ({"chunk_grid": {"name": "rectilinear"}}, "the chunk grid "),
    "a transformer": ({"storage_transformers": [{"name": "x"}]}, "storage transformers"),
    "a type": ({"data_type": "string"}, "pixels of the type 'string'"),
    "a record": ({"data_type": {"name": "structured"}}, "pixels of the type "),
}


@pytest.mark.parametrize("what", ASKED)
def test_what_zarr_3_may_ask_for_is_listed(tmp_path: Path, what: str) -> None:
    changes, said = ASKED[what]
    refuse(write_3(tmp_path / "a.ome.zarr", **changes), said)


@pytest.mark.parametrize("where", [".zmetadata", "zarr.json"])
def test_what_is_said_of_all_arrays_in_one_place_is_checked(tmp_path: Path, where: str) -> None:
    """Readers that are told by the group what its arrays are do not look into the arrays."""
    if where == ".zmetadata":
        path = write_2(tmp_path / "a.ome.zarr")
        array = json.loads((path / "0" / ".zarray").read_text()) | {"compressor": PICKLE}
        metadata = {".zgroup": {"zarr_format": 2}, ".zattrs": attributes(), "0/.zarray": array}
        content: dict[str, Any] = {"zarr_consolidated_format": 1, "metadata": metadata}
    else:
        path = write_3(tmp_path / "a.ome.zarr")
        array = json.loads((path / "0" / "zarr.json").read_text())
        array["codecs"] = [{"name": "pickle"}]
        content = json.loads((path / where).read_text())
        content["consolidated_metadata"] = {
            "kind": "inline",
            "must_understand": False,
            "metadata": {"0": array},
        }
    (path / where).write_text(json.dumps(content))
    refuse(path, "the codec 'pickle'")


@pytest.mark.parametrize("looped", [False, True])
def test_listed_codecs_are_read(tmp_path: Path, looped: bool) -> None:
    pixels = np.arange(SIDE**2, dtype=np.uint8).reshape(SIDE, SIDE)
    for number, codec in enumerate(
        (numcodecs.Blosc(), numcodecs.Zstd(), numcodecs.LZ4(), numcodecs.BZ2(), numcodecs.LZMA())
    ):
        path = tmp_path / f"{number}.ome.zarr"
        group = zarr.create_group(str(path), zarr_format=2, attributes=attributes())
        delta = numcodecs.Delta(dtype="|u1")
        array = group.create_array(
            "0", data=pixels, chunks=(SIDE, SIDE), compressors=codec, filters=[delta]
        )
        assert array.compressors == (codec,)
        if looped:
            (path / "loop").symlink_to(path)
        with open_source(path) as source:
            assert np.array_equal(source.read_chunk(source.planes[0], 0, 0, 0), pixels)


def test_every_listed_codec_makes_bytes_or_numbers() -> None:
    for name in OF_ZARR_2 & set(numcodecs.registry.codec_registry):
        kind = numcodecs.registry.codec_registry[name]
        assert kind.__module__.partition(".")[0] == "numcodecs"
        assert kind.__module__ not in ("numcodecs.pickles", "numcodecs.json", "numcodecs.msgpacks")
    assert not {"pickle", "json2", "msgpack2", "vlen-utf8"} & (OF_ZARR_2 | OF_ZARR_3)


@pytest.mark.parametrize("name", ["zarr.json", "0/.zarray", ".zmetadata"])
def test_a_document_larger_than_any_is_not_read(tmp_path: Path, name: str) -> None:
    folder = write_2(tmp_path / "a.ome.zarr")
    (folder / name).touch()
    os.truncate(folder / name, 2**40)
    if name == ".zmetadata":  # which is only looked at for codecs
        check_documents(folder)
    else:
        with pytest.raises(ImageError, match="is larger than 64 MiB"):
            open_source(folder)
