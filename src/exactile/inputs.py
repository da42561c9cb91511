"""What is segmented: each image of a collection, or each mosaic that a stitching vector makes.

Either is known by a path: the image's, or the vector's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exactile.errors import ImageError, SettingsError
from exactile.images import (
    DEFAULT_PATTERN,
    MosaicSource,
    Source,
    image_files,
    open_source,
    read_mosaic,
    read_sizes,
)
from exactile.images.collection import collect
from exactile.images.digest import FileDigest
from exactile.images.stitching_vector import find_vectors
from exactile.settings import SegmentSettings

logger = logging.getLogger(__name__)


def list_inputs(settings: SegmentSettings) -> tuple[Path, ...]:
    """Return the images that are segmented, or the vectors of the mosaics that are.

    Raises:
        CollectionError: if there are none.
        SettingsError: if both a vector and a pattern say which files are read, or if a mosaic is
            to be cut back and there is none.
    """
    if settings.stitching_vector is None:
        if settings.mosaic_output == "files":
            raise SettingsError(
                "--mosaicOutput files cuts a mosaic back into its files: give --stitchingVector "
                "too, or leave it out"
            )
        return _whole_images(collect(settings.inp_dir, settings.file_pattern))
    if settings.statistics is not None:
        raise SettingsError(
            "--statistics are those of images, and --stitchingVector makes mosaics, which are "
            "measured as wholes: leave --statistics out"
        )
    if settings.shard is not None and settings.mosaic_output == "files":
        raise SettingsError(
            "--mosaicOutput files needs the whole mosaic, and a shard makes a part of it: use "
            "--mosaicOutput image with --shard, or leave --shard out"
        )
    if settings.file_pattern != DEFAULT_PATTERN:
        raise SettingsError(
            f"--filePattern {settings.file_pattern!r} has no use beside --stitchingVector, whose "
            "lines say which files are read: leave it out"
        )
    return find_vectors(settings.stitching_vector)


def _whole_images(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the files without those that are part of an image which another of them begins."""
    known = set(paths)
    found = []
    for path in paths:
        first = image_files(path)[0]
        if first != path and first in known:
            logger.info("%s is part of the image that %s begins", path.name, first.name)
        else:
            found.append(path)
    return tuple(found)


def open_input(settings: SegmentSettings, path: Path, cache_bytes: int, threads: int) -> Source:
    """Return the source of an input; see `open_source`.

    Raises:
        CollectionError: if a vector cannot be used, or places files that are not there.
        ImageError: if an image cannot be opened, or those of a mosaic are not alike.
    """
    if settings.stitching_vector is None:
        return open_source(path, cache_bytes, threads)
    return MosaicSource(read_mosaic(path, settings.inp_dir), cache_bytes, threads)


def sizes_of_input(settings: SegmentSettings, path: Path) -> tuple[int, int, int, int]:
    """Return the sizes (T, Z, Y, X) of an input; no pixel is read.

    Raises:
        CollectionError, ImageError: see `open_input`.
    """
    if settings.stitching_vector is None:
        return read_sizes(path)
    with open_input(settings, path, 0, 1) as source:
        return (source.size_t, source.size_z, *source.shape)


def digest_input(settings: SegmentSettings, path: Path) -> FileDigest:
    """Return size and digest of an input; of a mosaic, those of all its files in their places.

    Raises:
        CollectionError: if a vector cannot be used, or places files that are not there.
        ImageError: if a file cannot be read.
    """
    if settings.stitching_vector is None:
        return digest_of(path)
    with _named_errors(path):
        return read_mosaic(path, settings.inp_dir).digest()


def digest_of(path: Path) -> FileDigest:
    """Return size and digest of an image: a file, a folder, or the files that hold it together.

    Raises:
        ImageError: if it cannot be read.
    """
    with _named_errors(path):
        files = image_files(path)
        if len(files) == 1:
            return FileDigest.of(path)
        return FileDigest.of_files(path.parent, [file.name for file in files])


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ImageError(
            f"{error.filename or path}: cannot be read ({error.strerror or error})"
        ) from error
