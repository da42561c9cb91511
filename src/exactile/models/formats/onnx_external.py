"""Tensors of an ONNX model that lie in other files: read here, never by onnx.

They may stand anywhere in a model: among its initialisers, in attributes of nodes, in the bodies of
branches and loops, in functions. Each file must be one beside the model or below it, also after
links are followed. What was read becomes part of the model, and of its digest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exactile.errors import ModelError
from exactile.models.formats.content import read_content


def load_external(onnx: Any, model: Any, what: str, folder: Path | None) -> list[bytes]:
    """Put all tensors that lie in other files into `model`; return the bytes of these files.

    Raises:
        ModelError: if a file is missing, too short, or no file below `folder`.
    """
    outside = [
        (tensor, {entry.key: entry.value for entry in tensor.external_data})
        for tensor in _tensors(onnx, model)
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data
    ]
    names = sorted({facts.get("location", "") for _, facts in outside})
    if not names:
        return []
    if folder is None:
        raise ModelError(
            f"{what}: its weights lie in other files ({', '.join(names)}); unpack the archive "
            "and name the unpacked folder"
        )
    files = {name: _read(folder, name, what) for name in names}
    for tensor, facts in outside:
        content = files[facts.get("location", "")]
        tensor.raw_data = _part(content, facts, what)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return list(files.values())


def _tensors(onnx: Any, message: Any) -> Iterator[Any]:
    """Yield every tensor in a model, wherever it stands."""
    waiting = [message]
    while waiting:
        found = waiting.pop()
        if isinstance(found, onnx.TensorProto):
            yield found
            continue
        for field, value in found.ListFields():
            if field.message_type is None:
                continue
            waiting += [value] if hasattr(value, "ListFields") else list(value)


def _read(folder: Path, name: str, what: str) -> bytes:
    place = folder / name
    if not name or "\0" in name or not place.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"{what}: names weights outside its folder ({name}); move them there")
    if place.exists() and not place.is_file():
        raise ModelError(f"{what}: names weights in {name}, which is no file; save it as one file")
    return read_content(place)


def _part(content: bytes, facts: dict[str, str], what: str) -> bytes:
    """Return the bytes of a tensor in the file that it lies in."""
    try:
        offset = int(facts.get("offset", "0"))
        length = int(facts.get("length", len(content) - offset))
    except ValueError:
        offset = length = -1
    if min(offset, length) < 0 or offset + length > len(content):
        raise ModelError(
            f"{what}: its weights in {facts['location']} cannot be read: the file ends before "
            "them; copy it again, or save the model as one file"
        )
    return content[offset : offset + length]
