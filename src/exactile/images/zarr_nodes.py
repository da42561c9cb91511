"""A group or an array of a Zarr folder: what its documents say, of Zarr 2 or 3.

Zarr 2 has the attributes in a document of their own (`.zattrs` beside `.zgroup` or `.zarray`),
Zarr 3 all in `zarr.json`. Copies of documents, `.zmetadata` and what `zarr.json` may have of the
nodes below it, are never read: they may be those of an earlier image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from exactile.images.zarr_documents import DocumentError, read_document

Kind = Literal["group", "array"]


@dataclass(frozen=True, slots=True)
class Node:
    """One node, as one of the formats describes it."""

    folder: Path
    zarr_format: Literal[2, 3]
    kind: Kind
    document: Mapping[str, Any]
    """That of the group or array: `zarr.json`, `.zgroup` or `.zarray`."""
    attributes: Mapping[str, Any]


def read_nodes(folder: Path) -> tuple[Node, ...]:
    """Return the node in `folder` as each format has it that describes it there; mostly one.

    Raises DocumentError for documents that cannot be used, and where there is none.
    """
    nodes = tuple(filter(None, (_read_3(folder), _read_2(folder))))
    if not nodes:
        raise DocumentError("there is no zarr.json, .zgroup or .zarray")
    if len({node.kind for node in nodes}) > 1:
        raise DocumentError("it is a group in one format of Zarr, and an array in another")
    return nodes


def _read_3(folder: Path) -> Node | None:
    document = read_document(folder / "zarr.json")
    if document is None:
        return None
    kind = document.get("node_type")
    if document.get("zarr_format") != 3 or kind not in ("group", "array"):
        raise DocumentError("zarr.json is neither that of a group nor that of an array of Zarr 3")
    return Node(folder, 3, kind, document, _mapping(document.get("attributes"), "attributes"))


def _read_2(folder: Path) -> Node | None:
    kinds: tuple[Kind, Kind] = ("array", "group")
    found = {kind: read_document(folder / f".z{kind}") for kind in kinds}
    there = {kind: document for kind, document in found.items() if document is not None}
    if not there:
        return None
    if len(there) > 1:
        raise DocumentError("there are both .zgroup and .zarray")
    ((kind, document),) = there.items()
    if document.get("zarr_format") != 2:
        raise DocumentError(f".z{kind} is not of Zarr 2")
    return Node(folder, 2, kind, document, read_document(folder / ".zattrs") or {})


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise DocumentError(f"{name} of zarr.json are no object")
    return value
