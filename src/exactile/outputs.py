"""The names of the results, known before anything is read, and the folder that they go to."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from exactile.certificate import FOLDER
from exactile.errors import CollectionError, OutputError
from exactile.images import Mosaic, output_name, output_names, read_mosaic
from exactile.images.links import fresh, refuse_links
from exactile.images.work_folder import WORK_FOLDER
from exactile.inputs import list_inputs
from exactile.report.preview import REPORT_FOLDER
from exactile.settings import SegmentSettings

PREVIEW_NAME = "preview.json"


MOSAICS = Path("exactile") / "mosaics"
"""The sub-folder of the output folder for mosaics that are cut back into files."""


def plan_outputs(settings: SegmentSettings) -> dict[Path, Path]:
    """Return the output's path for each image's, or for each stitching vector's.

    Nothing is read but names, and vectors.

    Raises:
        CollectionError: if there are no images, or results would replace inputs or each other; if
            no vector can be used. Of several, one that cannot is a failure of its mosaic alone.
        SettingsError: for an extension that cannot be written.
    """
    inputs = list_inputs(settings)
    folders = {settings.inp_dir}
    if settings.stitching_vector is None:
        names = output_names(inputs, settings.extension)
        outputs = {path: settings.out_dir / name for path, name in zip(inputs, names, strict=True)}
        folders |= {path.parent for path in inputs}
    else:
        mosaics = _usable_mosaics(inputs, settings.inp_dir)
        outputs = {path: _mosaic_output(settings, path) for path in inputs}
        folders |= {each.folder for each in mosaics}
        if settings.mosaic_output == "files":
            _refuse_two_of_a_name(settings, mosaics)
    if settings.out_dir.resolve() in {folder.resolve() for folder in folders}:
        raise CollectionError(
            f"--outDir {settings.out_dir} is the folder of the images: results would replace "
            "them, or be taken for them; choose another folder"
        )
    return outputs


def _usable_mosaics(vectors: Sequence[Path], inp_dir: Path) -> list[Mosaic]:
    """Return the mosaics of those vectors that can be used. Raises CollectionError if none can."""
    mosaics: list[Mosaic] = []
    first: CollectionError | None = None
    for path in vectors:
        try:
            mosaics.append(read_mosaic(path, inp_dir))
        except CollectionError as error:
            first = first or error
    if first is not None and not mosaics:
        raise first
    return mosaics


def _mosaic_output(settings: SegmentSettings, vector: Path) -> Path:
    folder = settings.out_dir
    if settings.mosaic_output == "files":
        folder /= MOSAICS
    return folder / output_name(Path(f"{vector.stem}.ome.tif"), settings.extension)


def _refuse_two_of_a_name(settings: SegmentSettings, mosaics: list[Mosaic]) -> None:
    """Raise CollectionError where two files of mosaics would be cut to the same one."""
    owners: dict[Path, tuple[str, int]] = {}
    for mosaic in mosaics:
        for each in mosaic.placements:
            place = (mosaic.vector.name, each.line)
            output = cut_path(settings, mosaic.path(each))
            other = owners.setdefault(output, place)
            if other != place:
                raise CollectionError(
                    f"{other[0]}, line {other[1]}, and {place[0]}, line {place[1]}, would both be "
                    f"cut back to {output.name}: use --mosaicOutput image, or one vector at a time"
                )


def cut_path(settings: SegmentSettings, path: Path) -> Path:
    """Return where the part of a mosaic's result goes that the input file `path` fills."""
    return settings.out_dir / output_name(path, settings.extension)


def result_names(settings: SegmentSettings) -> list[str]:
    """Return the names of the images that will be at the top of the output folder.

    Raises as `plan_outputs` does.
    """
    outputs = plan_outputs(settings)
    if settings.mosaic_output == "image":
        return [path.name for path in outputs.values()]
    mosaics = (read_mosaic(vector, settings.inp_dir) for vector in outputs)
    return [cut_path(settings, one.path(each)).name for one in mosaics for each in one.placements]


def write_preview(settings: SegmentSettings) -> Path:
    """Write the names of the results to outDir/preview.json, as WIPP asks, and return its path."""
    names = result_names(settings)
    make_folder(settings.out_dir)
    path = settings.out_dir / PREVIEW_NAME
    partial = settings.out_dir / f".{PREVIEW_NAME}.partial"
    content = {"filePattern": settings.file_pattern, "outDir": names}
    try:
        fresh(partial).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
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
    if path.is_dir():
        refuse_links(path / WORK_FOLDER, path)
        refuse_links(path / FOLDER, path)
        for inner in (path / REPORT_FOLDER, *_inside(path / REPORT_FOLDER)):
            refuse_links(inner, path)
    certificates = path / FOLDER
    if certificates.exists() and not certificates.is_dir():
        raise OutputError(
            f"{certificates}: the certificate cannot be written: this is no folder; move it, or "
            "choose another --outDir"
        )


def _inside(folder: Path) -> list[Path]:
    """Return what lies in a folder; nothing where it is a link, or not there."""
    return [] if folder.is_symlink() or not folder.is_dir() else list(folder.iterdir())


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
