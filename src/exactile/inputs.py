"""What is segmented: each image of a collection, or each mosaic that a stitching vector makes.

Either is known by a path: the image's, or the vector's.
"""

from __future__ import annotations

from pathlib import Path

from exactile.errors import ImageError, SettingsError
from exactile.images import DEFAULT_PATTERN, MosaicSource, Source, open_source, read_mosaic
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


def digest_input(settings: SegmentSettings, path: Path) -> FileDigest:
    """Return size and digest of an input; of a mosaic, those of all its files in their places.

    Raises:
        CollectionError: if a vector cannot be used, or places files that are not there.
        ImageError: if a file cannot be read.
    """
    try:
        if settings.stitching_vector is None:
            return FileDigest.of(path)
        return read_mosaic(path, settings.inp_dir).digest()
    except OSError as error:
        raise ImageError(
            f"{error.filename or path}: cannot be read ({error.strerror or error})"
        ) from error
