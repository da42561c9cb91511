"""What a file is, by its content. Extensions are not believed: `.pt` alone has four meanings."""

from __future__ import annotations

import io
from pathlib import Path

from exactile.errors import ModelError
from exactile.models.formats.bioimageio import described, load_bioimageio
from exactile.models.formats.content import (
    EXPORT,
    inner_name,
    open_archive,
    read_member,
    refuse_endless,
)
from exactile.models.formats.exported import load_exported
from exactile.models.formats.onnx import load_onnx
from exactile.models.formats.pickled import Pickle, inspect
from exactile.models.formats.torchscript import load_torchscript
from exactile.models.network_file import NetworkFile

KNOWN = (
    "exactile's model cards, TorchScript, torch.export, bioimage.io descriptions and ONNX are run"
)

HEAD = 4096
"""Bytes by which a file that is no archive is recognised."""

ENOUGH_OF_A_PICKLE = 1 << 26
"""Bytes of a pickle that are looked at."""

MAGIC = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras weights, or data)"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"II+\x00", "a TIFF image"),
    (b"MM\x00+", "a TIFF image"),
    (b"%PDF", "a PDF document"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ", "an xz archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it first"),
    (b"GGUF", "a GGUF language model"),
    (b"\x7fELF", "a program or a library"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run: git lfs pull"),
)
"""How files of other kinds start."""

TEXTS = (
    (("<!doctype html", "<html"), "an HTML page; download the file that the page links to"),
    (("<?xml", "<svg"), "an XML file"),
    (("{", "["), "a JSON file"),
    (("import ", "from ", '"""', "#!", "def ", "class "), "source code, which is never executed"),
)
"""How texts of other kinds start."""

UNKNOWN = "of an unknown kind"

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How torch before 1.6 starts its files."""


def open_network(path: Path, output: str | None = None) -> NetworkFile:
    """Load the model at `path`, of any format but our own card, without executing what it brings.

    `output` says which of several outputs is segmented: its name, or its place from 0.

    Raises:
        ModelError: if it is no model, or one that cannot be run; the message says what it is.
    """
    try:
        if path.is_dir():
            return _open_folder(path, output)
        refuse_endless(path)
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}); --model takes the file of a model, or "
            "the folder of one"
        ) from error
    if not head:
        raise ModelError(f"{path}: is empty; copy or download the model again")
    if path.suffix.lower() in (".yaml", ".yml"):
        return load_bioimageio(path, output)
    if head.startswith(b"PK\x03\x04"):
        return _open_zip(path, output)
    if head.startswith(b"\x80") and head[1:2] in b"\x02\x03\x04\x05":
        with path.open("rb") as file:
            content = file.read(ENOUGH_OF_A_PICKLE)
        raise _refused_pickle(path, inspect(content), torch_wrote=head.startswith(LEGACY))
    kind = "" if _may_be_onnx(head) else _kind(path, head)
    if not kind or (kind == UNKNOWN and path.suffix.lower() == ".onnx"):
        return load_onnx(path, output)
    raise ModelError(f"{path}: is no model that can be run: it is {kind}. {KNOWN}")


def _open_folder(path: Path, output: str | None) -> NetworkFile:
    """Open the description in a folder, or its only model: workflow engines hand folders over."""
    names = sorted(entry.name for entry in path.iterdir())
    if described(names) is not None:
        return load_bioimageio(path, output)
    if "saved_model.pb" in names:
        raise ModelError(
            f"{path}: is a TensorFlow SavedModel, which is not run here; convert it to ONNX "
            "(tf2onnx) and name that file"
        )
    models = [n for n in names if n.endswith((".pt", ".pth", ".ts", ".pt2", ".onnx", ".zip"))]
    if len(models) == 1:
        return open_network(path / models[0], output)
    advice = f"name the file itself ({', '.join(models[:5])})" if models else "name a model's file"
    raise ModelError(
        f"{path}: is a folder without a description (model.json, bioimageio.yaml or rdf.yaml); "
        f"{advice}"
    )


def _open_zip(path: Path, output: str | None) -> NetworkFile:
    with open_archive(path, str(path)) as archive:
        names = archive.namelist()
        inner = {inner_name(name): name for name in names}
        pickle = read_member(archive, inner["data.pkl"], str(path)) if "data.pkl" in inner else b""
    if "data.pkl" in inner and "constants.pkl" in inner:
        return load_torchscript(path, output)
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return load_exported(path, output)
    if "data.pkl" in inner:
        raise _refused_pickle(path, inspect(pickle), torch_wrote=True)
    if described(names) is not None:
        return load_bioimageio(path, output)
    raise ModelError(f"{path}: is no model that can be run: it is {_archive(names)}. {KNOWN}")


def _archive(names: list[str]) -> str:
    """Return what a zip archive without a model of ours is."""
    if any(name.endswith("saved_model.pb") for name in names):
        return "a zip archive of a TensorFlow SavedModel; convert it to ONNX (tf2onnx)"
    if {"config.json", "model.weights.h5"} <= set(names):
        return "a Keras model; convert it to ONNX (tf2onnx)"
    if "MAR-INF/MANIFEST.json" in names:
        return "an archive of TorchServe; unpack it and name the TorchScript file in it"
    if "[Content_Types].xml" in names:
        return "an office document"
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of numpy arrays"
    listed = ", ".join(names[:3]) or "nothing"
    return f"a zip archive without a description (bioimageio.yaml or rdf.yaml); it holds {listed}"


def _refused_pickle(path: Path, pickle: Pickle, torch_wrote: bool) -> ModelError:
    if not pickle.complete:
        return ModelError(
            f"{path}: is truncated or damaged: it starts as a pickle does and breaks off; copy or "
            "download it again"
        )
    if pickle.classes:
        return ModelError(
            f"{path}: is a pickled Python object (of {_main_class(pickle.classes)}): loading it "
            f"would execute code from the file, which is never done here; {EXPORT}"
        )
    if not torch_wrote:
        return ModelError(
            f"{path}: is a pickle of plain values, not a model; name a model's file. {KNOWN}"
        )
    return ModelError(
        f"{path}: holds weights without their architecture (a state dict or a checkpoint), so "
        f"there is nothing to run; build the network from its code, load the weights, and {EXPORT}"
    )


def _main_class(classes: tuple[str, ...]) -> str:
    """Return the class that a reader will know: not one of torch's or Python's own, if any."""
    own = [name for name in classes if not name.startswith(("torch.", "builtins.", "__builtin__."))]
    return (own or list(classes))[0]


def _may_be_onnx(head: bytes) -> bool:
    """Whether a file starts as ONNX models do: the format's version, then the producer."""
    return len(head) > 3 and head[0] == 0x08 and 3 <= head[1] < 32 and head[2] in (0x12, 0x3A, 0x42)


def _kind(path: Path, head: bytes) -> str:
    """Return what a file of another kind is, for people."""
    for magic, kind in MAGIC:
        if head.startswith(magic):
            return kind
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model; convert the original to ONNX (tf2onnx)"
    if head[8:9] == b"{" and head[7:8] == b"\x00":
        return (
            "a safetensors file: weights without their architecture; put it beside the model.json "
            "that names it, and name that folder"
        )
    if path.suffix.lower() == ".pb":
        return "a TensorFlow graph; convert it to ONNX (tf2onnx)"
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it first"
    try:
        text = io.TextIOWrapper(io.BytesIO(head[:-4] or head), "utf-8").read().lstrip().lower()
    except UnicodeDecodeError:
        return UNKNOWN
    for starts, kind in TEXTS:
        if text.startswith(starts):
            return kind
    return "a text"
