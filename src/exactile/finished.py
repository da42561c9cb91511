"""Images that an earlier run has finished: they are not done again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exactile.certificate import certificate_path
from exactile.certified import Certified, read_certificate
from exactile.images.chunk_rows import ChunkRows
from exactile.images.journal import SameBits, differences, never_the_same
from exactile.images.zarr_layout import is_zarr_name
from exactile.shard_files import chunk_rows
from exactile.stored_json import MalformedError

logger = logging.getLogger(__name__)


def is_finished(
    output: Path, identity: Mapping[str, Any], same_bits: SameBits = never_the_same
) -> bool:
    """Return whether `output` is what a run of this identity wrote; log why it is not.

    Its certificate must be as it was written, name the same facts, or facts that make the
    `same_bits`, and the digest of the very image. Nothing but the two is read.
    """
    path = certificate_path(output)
    if not path.is_file():
        return False
    try:
        certificate = read_certificate(path)
        chunks = _chunks(output, certificate)
        if not (output.exists() if chunks is None else not any(chunks.missing())):
            return False
        objection = _objection(output, chunks, certificate, identity, same_bits)
    except OSError as error:
        objection = f"{error.filename or path} cannot be read ({error.strerror or error})"
    except MalformedError as error:
        objection = f"{path} is not as a run has written it ({error})"
    if objection:
        logger.info("%s: is there, and is made again: %s", output.name, objection)
    return not objection


def _chunks(output: Path, certificate: Certified) -> ChunkRows | None:
    """Return where the chunks of a part of an OME-Zarr lie; None for what has files of its own."""
    found = certificate.part()
    if found is None or not is_zarr_name(output.name):
        return None
    part, whole, image = found
    return chunk_rows(output.parent, whole, image, part.plane, part.rows)


def _objection(
    output: Path,
    chunks: ChunkRows | None,
    certificate: Certified,
    identity: Mapping[str, Any],
    same_bits: SameBits,
) -> str:
    facts = certificate.result
    if found := "; ".join(differences(facts.identity, identity)):
        plan = certificate.run.plan
        noted = {"engine": certificate.run.engine, "window": plan.window, "strategy": plan.strategy}
        if not same_bits(facts.identity, noted, plan.windows_before):
            return found
    file = facts.file
    if not (file.is_of(output) if chunks is None else file == chunks.digest()):
        return "the file is not the one that its certificate speaks of"
    return ""
