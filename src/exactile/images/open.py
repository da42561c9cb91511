"""Opening an image: one function, whatever the file's layout."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from exactile.errors import ImageError
from exactile.images.bfio_source import BfioSource, is_sound_for_bfio
from exactile.images.file_kind import check_kind
from exactile.images.metadata import ImageMetadata, parse_ome
from exactile.images.ome_images import described_by
from exactile.images.ome_planes import OmeError, is_ome
from exactile.images.source import DEFAULT_CACHE_BYTES, Source
from exactile.images.tiff_directories import first_description
from exactile.images.tiff_file import TiffContents, damage_named, open_tiff, read_contents
from exactile.images.tiff_layout import image_sizes
from exactile.images.tiff_metadata import metadata_of
from exactile.images.tiff_pages import check_pages
from exactile.images.tiff_set_source import TiffSetSource

logger = logging.getLogger(__name__)


def open_source(
    path: Path,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    threads: int = 1,
    *,
    described: bool = True,
) -> Source:
    """Return a source for the image `path`, a file or an OME-Zarr folder, for one thread.

    `cache_bytes` bounds the memory for decoded chunks, whatever the image's size; `threads` of its
    own decode. Not `described`, its metadata stays empty, and the OME-XML that bfio and the
    metadata need is not parsed: the same pixels, opened in a fortieth of the time.

    Raises ImageError, naming the file, where it is missing, empty, no TIFF, damaged, truncated,
    unfinished, of a kind that is not supported, or where what it says of itself and what is there
    differ, so that nobody can tell what it holds.
    """
    check_kind(path)
    if path.is_dir():
        return _open_folder(path, cache_bytes, threads)
    with ExitStack() as opened:
        tiff, directories = open_tiff(path)
        opened.callback(tiff.close)
        contents = read_contents(tiff, path, directories)
        image = contents.image
        if described and not contents.only:
            logger.warning("%s: read is image %s", path, contents.series)
        ome = parse_ome(contents.xml, path) if described and contents.xml is not None else None
        with damage_named(path):
            metadata = metadata_of(contents, ome) if described else ImageMetadata()
        if image.spread is not None:
            _check_first(contents, path)
            source: Source = TiffSetSource(image.spread, metadata, cache_bytes, threads)
        else:
            pages = check_pages(tiff, directories, image, path)
            if len(metadata.channels) != pages.layout.sizes[2]:
                metadata = replace(metadata, channels=())
            if not pages.sparse and is_sound_for_bfio(path, pages.layout, ome):
                source = BfioSource(path, pages.layout, metadata, cache_bytes, threads)
            else:
                source = pages.source(path, metadata, cache_bytes, threads)
                opened.pop_all()
            if pages.sparse:
                source.filled = "tiles are left out, which is background in its format"
        source.series = contents.series
    return source


def read_sizes(path: Path) -> tuple[int, int, int, int]:
    """Return the sizes (T, Z, Y, X) of the image file `path`; no pixel, and no metadata, is read.

    It takes 0.3 ms where opening a source takes 8: a collection may have 10,000 files. Raises
    ImageError where the structure cannot be read; whether the rest can be, is not seen.
    """
    check_kind(path)
    if path.is_dir():
        with open_source(path) as source:
            return (source.size_t, source.size_z, *source.shape)
    tiff, directories = open_tiff(path)
    with tiff:
        return image_sizes(read_contents(tiff, path, directories).image, path)


def image_files(path: Path) -> tuple[Path, ...]:
    """Return the files that hold the image `path`, and what describes it; mostly itself alone.

    The first of them is the one that the image is known by: where that is another, `path` cannot be
    opened. Of a file that cannot be read, itself: opening it will say why.
    """
    if not path.is_file():
        return (path,)  # a folder, or what is no image: a pipe would never answer
    xml = first_description(path).rstrip(b"\0").decode("utf-8", "replace")
    if not ("FileName" in xml or "BinaryOnly" in xml) or not is_ome(xml):
        return (path,)
    try:
        companion = described_by(path, xml)[0].companion
        tiff, directories = open_tiff(path)
        with tiff:
            spread = read_contents(tiff, path, directories).image.spread
    except (ImageError, OmeError):
        return (path,)
    files = (path,) if spread is None else spread.files
    return files + ((path.with_name(companion),) if companion else ())


def _check_first(contents: TiffContents, path: Path) -> None:
    spread = contents.image.spread
    if spread is not None and spread.files[0] != path:
        raise ImageError(
            f"{path} is part of the image that {spread.files[0].name} begins, which has planes in "
            f"{len(spread.files)} files: choose that one alone with --filePattern"
        )


def _open_folder(path: Path, cache_bytes: int, threads: int) -> Source:
    # zarr and the models of its metadata take time to import, which TIFF files need not wait for.
    from exactile.images.zarr_open import is_zarr, open_zarr

    if not is_zarr(path):
        kind = "an OME-Zarr folder: it has no zarr.json or .zgroup; copy or write it again"
        raise ImageError(
            f"{path} is not {kind}"
            if path.name.lower().endswith(".zarr")
            else f"{path} is a folder, not an image file"
        )
    return open_zarr(path, cache_bytes, threads)
