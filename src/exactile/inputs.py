"""What is segmented: each image of a collection, or each mosaic that a stitching vector makes.

Either is known by a path: the image's, or the vector's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exactile.errors import ImageError, SettingsError
from exactile.images import (
    DEFAULT_PATTERN,
    MosaicSource,
    Source,
    open_source,
    read_mosaic,
    read_sizes,
)
from exactile.images.collection import collect
from exactile.images.digest import FileDigest
from exactile.images.stitching_vector import find_vectors
from exactile.settings import SegmentSettings


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
        return collect(settings.inp_dir, settings.file_pattern)
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
    """Return size and digest of an image, a file or a folder.

    Raises:
        ImageError: if it cannot be read.
    """
    with _named_errors(path):
        return FileDigest.of(path)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ImageError(
            f"{error.filename or path}: cannot be read ({error.strerror or error})"
        ) from error
