"""Images that an earlier run has finished: they are not done again."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exactile.certificate import certificate_path
from exactile.images.digest import FileDigest
from exactile.images.journal import differences

logger = logging.getLogger(__name__)


def is_finished(output: Path, identity: Mapping[str, Any]) -> bool:
    """Return whether `output` is what a run of this identity wrote; log why it is not.

    Its certificate must name the same facts, and the digest of the very image. Nothing but the
    two is read.
    """
    path = certificate_path(output)
    if not (output.exists() and path.is_file()):
        return False
    try:
        objection = _objection(output, json.loads(path.read_bytes()), identity)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        objection = f"{path} cannot be read, or says nothing of what the result depends on"
    if objection:
        logger.info("%s: is there, and is made again: %s", output.name, objection)
    return not objection


def _objection(output: Path, certificate: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    if found := "; ".join(differences(certificate["identity"], identity)):
        return found
    if not FileDigest(**certificate["file"]).is_of(output):
        return "the file is not the one that its certificate speaks of"
    return ""
