"""The names of the results, known before anything is read, and the folder that they go to."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from exactile.certificate import FOLDER
from exactile.errors import CollectionError, OutputError
from exactile.images import collect, output_names
from exactile.settings import SegmentSettings

PREVIEW_NAME = "preview.json"


def plan_outputs(settings: SegmentSettings) -> dict[Path, Path]:
    """Return the output's path for each input's; nothing is read but names.

    Raises:
        CollectionError: if there are no images, or results would replace inputs or each other.
    """
    inputs = collect(settings.inp_dir, settings.file_pattern)
    names = output_names(inputs, settings.extension)
    outputs = {path: settings.out_dir / name for path, name in zip(inputs, names, strict=True)}
    folders = {settings.inp_dir, *(path.parent for path in inputs)}
    if settings.out_dir.resolve() in {folder.resolve() for folder in folders}:
        raise CollectionError(
            f"--outDir {settings.out_dir} is the folder of the images: results would replace "
            "them, or be taken for them; choose another folder"
        )
    return outputs


def write_preview(settings: SegmentSettings) -> Path:
    """Write the names of the results to outDir/preview.json, as WIPP asks, and return its path."""
    names = [path.name for path in plan_outputs(settings).values()]
    make_folder(settings.out_dir)
    path = settings.out_dir / PREVIEW_NAME
    partial = settings.out_dir / f".{PREVIEW_NAME}.partial"
    content = {"filePattern": settings.file_pattern, "outDir": names}
    try:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def check_folder(path: Path) -> None:
    """Say why the output folder cannot be used, before anything is computed; nothing is made."""
    try:
        existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    except OSError as error:
        raise _cannot_make(path, str(error.strerror)) from error
    if not existing.is_dir():
        raise _cannot_make(path, f"{existing} is no folder")
    if not os.access(existing, os.W_OK):
        raise OutputError(
            f"--outDir {path}: {existing} is not writable; choose another, or permit writing"
        )
    certificates = path / FOLDER
    if certificates.exists() and not certificates.is_dir():
        raise OutputError(
            f"{certificates}: the certificate cannot be written: this is no folder; move it, or "
            "choose another --outDir"
        )


def make_folder(path: Path) -> None:
    """Make the output folder, or say why it cannot be used."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_make(path, str(error.strerror)) from error
    check_folder(path)


def _cannot_make(path: Path, cause: str) -> OutputError:
    return OutputError(
        f"--outDir {path}: cannot be made ({cause}); choose a folder you may write to"
    )
