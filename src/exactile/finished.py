"""Images that an earlier run has finished: they are not done again."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exactile.certificate import certificate_path
from exactile.geometry import Interval
from exactile.images import Plane
from exactile.images.chunk_rows import ChunkRows
from exactile.images.digest import FileDigest
from exactile.images.image_record import image_from_record
from exactile.images.journal import differences
from exactile.images.zarr_layout import is_zarr_name
from exactile.shard_files import chunk_rows

logger = logging.getLogger(__name__)


def is_finished(output: Path, identity: Mapping[str, Any]) -> bool:
    """Return whether `output` is what a run of this identity wrote; log why it is not.

    Its certificate must name the same facts, and the digest of the very image. Nothing but the
    two is read.
    """
    path = certificate_path(output)
    if not path.is_file():
        return False
    try:
        certificate = json.loads(path.read_bytes())
        chunks = _chunks(output, certificate)
        if not (output.exists() if chunks is None else not any(chunks.missing())):
            return False
        objection = _objection(output, chunks, certificate, identity)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        objection = f"{path} cannot be read, or says nothing of what the result depends on"
    if objection:
        logger.info("%s: is there, and is made again: %s", output.name, objection)
    return not objection


def _chunks(output: Path, certificate: Mapping[str, Any]) -> ChunkRows | None:
    """Return where the chunks of a part of an OME-Zarr lie; None for what has files of its own."""
    record = certificate["part"]
    if record is None or not is_zarr_name(output.name):
        return None
    image, plane = image_from_record(record["image"]), Plane(record["t"], record["z"])
    return chunk_rows(output.parent, record["output"], image, plane, Interval(*record["rows"]))


def _objection(
    output: Path,
    chunks: ChunkRows | None,
    certificate: Mapping[str, Any],
    identity: Mapping[str, Any],
) -> str:
    if found := "; ".join(differences(certificate["identity"], identity)):
        return found
    file = FileDigest(**certificate["file"])
    if not (file.is_of(output) if chunks is None else file == chunks.digest()):
        return "the file is not the one that its certificate speaks of"
    return ""
