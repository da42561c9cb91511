"""The images of an OME-TIFF, by its OME-XML, and by that of the file that has it instead.

What the OME-XML says is compared with the pages that are there. Files of a set describe each other:
of their images, those are the file's own that have planes in it. A file knows itself by its UUID,
or by its name; where it was renamed and has no UUID, by being the only one that is spoken of.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffPage

from exactile.errors import ImageError
from exactile.images.ome_planes import FileMark, OmeDocument, OmeError, OmeImage, read_ome
from exactile.images.tiff_directories import Directory, first_description
from exactile.images.tiff_image import Spread, TiffImage, full_page, page_loader

logger = logging.getLogger(__name__)

MOST_BYTES = 2**28
"""Of OME-XML beside an image."""

HERE = FileMark()
"""The file itself."""


def described_by(path: Path, xml: str) -> tuple[OmeDocument, str]:
    """Return what describes the images of `path`, whose description is `xml`, and its text.

    That is another file, beside it, where `xml` says so. Raises OmeError where it cannot be read.
    """
    own = read_ome(xml)
    if not own.companion:
        return own, xml
    companion = path.with_name(own.companion)
    try:
        if not companion.is_file():
            raise FileNotFoundError(2, "it is not there")
        if companion.suffix.lower() == ".ome":
            with companion.open("rb") as file:
                found = file.read(MOST_BYTES + 1)
            if len(found) > MOST_BYTES:
                raise OmeError(f"it refers to {own.companion}, which is larger than any OME-XML")
        else:
            found = first_description(companion).rstrip(b"\0")
    except OSError as error:
        raise OmeError(
            f"it refers to {own.companion}, which has to lie beside it ({error.strerror})"
        ) from error
    text = found.decode("utf-8", "replace")
    whole = read_ome(text)
    return OmeDocument(own.mark, whole.images, own.companion), text


class SelfKnowledge:
    """Which of the files that OME-XML speaks of is the one at hand."""

    def __init__(self, document: OmeDocument, path: Path) -> None:
        """Raise OmeError where it is none of them."""
        marks = {block.mark for image in document.images for block in image.blocks} - {HERE}
        self._own = {mark for mark in marks if document.mark and mark.uuid == document.mark}
        if not self._own:
            named = path.name.casefold()
            self._own = {mark for mark in marks if mark.name.casefold() == named}
        if self._own or not marks:
            return
        if any(image.blocks == () or HERE in _marks(image) for image in document.images):
            return
        names = sorted({mark.name or mark.uuid for mark in marks})
        if len(names) > 1:
            raise OmeError(
                f"it speaks of {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}, "
                "none of which is this file: give it the name back that it had"
            )
        if (path.parent / names[0]).exists():
            raise OmeError(f"it says that the pixels are in {names[0]}, which lies beside it")
        self._own = marks

    def is_here(self, mark: FileMark) -> bool:
        """Return whether a mark stands for the file at hand."""
        return mark == HERE or mark in self._own


def ome_images(
    tiff: TiffFile, path: Path, document: OmeDocument, directories: Sequence[Directory]
) -> list[TiffImage]:
    """Return the images of a document that have planes in an open TIFF.

    Raises OmeError where the document does not say where they are, and ImageError where pages that
    it names are not there, or others are that it does not name.
    """
    knowledge = SelfKnowledge(document, path)
    found: list[TiffImage] = []
    named: set[int] = set()
    for position, image in enumerate(document.images):
        here = [block.page for block in image.blocks if knowledge.is_here(block.mark)]
        if image.blocks and not here:
            continue
        keyframe = full_page(tiff, min(here, default=0), path)
        places = image.places(keyframe.samplesperpixel)
        spread = _spread(image, places, path, knowledge)
        own = spread.page_of[spread.file_of == spread.files.index(path)].tolist()
        if named.intersection(own):
            raise OmeError("it names the same page for several images")
        named.update(own)
        full_page(tiff, max(own), path)
        found.append(_image(tiff, image, keyframe, spread, position))
    if not found:
        raise OmeError("it describes no image with pixels in this file")
    _compare(path, document, found, named, directories)
    return found


def _image(
    tiff: TiffFile, image: OmeImage, keyframe: TiffPage, spread: Spread, position: int
) -> TiffImage:
    separate, _, height, width, contiguous = keyframe.shaped
    sizes = [*spread.page_of.shape, separate, height, width, contiguous]
    pages = spread.page_of.ravel().tolist()
    return TiffImage(
        name=image.name,
        axes="TZCSYXS",
        shape=tuple(sizes),
        keyframe=keyframe,
        load=page_loader(tiff, pages),
        ome=position,
        spread=spread if len(spread.files) > 1 else None,
    )


def _spread(
    image: OmeImage, places: NDArray[np.int64], path: Path, knowledge: SelfKnowledge
) -> Spread:
    """Return the files of an image, of which some lie beside `path`."""
    used = list(dict.fromkeys(places[..., 0].ravel().tolist()))
    marks = {number: image.blocks[number].mark if number >= 0 else HERE for number in used}
    uuids = {mark.uuid: mark.name for mark in _marks(image) if mark.name}
    files: list[Path] = []
    number_of: dict[int, int] = {}
    for number, mark in marks.items():
        name = mark.name or uuids.get(mark.uuid, "")
        file = path if knowledge.is_here(mark) else path.with_name(name or "?")
        if file not in files:
            if file != path:
                _check_member(file, name, mark)
            files.append(file)
        number_of[number] = files.index(file)
    file_of = np.vectorize(number_of.__getitem__, otypes=[np.int64])(places[..., 0])
    return Spread(tuple(files), file_of, places[..., 1])


def _check_member(file: Path, name: str, mark: FileMark) -> None:
    if not name or not file.is_file():
        raise OmeError(
            f"some of its planes are in {name or mark.uuid}, which has to lie beside it: copy the "
            "files of the set together"
        )
    try:
        own = read_ome(first_description(file).rstrip(b"\0")).mark
    except OmeError:
        own = ""
    if own and mark.uuid and own != mark.uuid:
        raise OmeError(
            f"some of its planes are in {name}, and the file of that name is another one ({own} "
            f"instead of {mark.uuid}): bring back the one that belongs to it"
        )


def _compare(
    path: Path,
    document: OmeDocument,
    found: Iterable[TiffImage],
    named: set[int],
    directories: Sequence[Directory],
) -> None:
    """Compare what the document says with the pages of the file."""
    for image in found:
        assert image.ome is not None
        height, width = document.images[image.ome].shape
        if image.size != (width, height):
            logger.warning(
                "%s: its OME-XML says %d x %d pixels, and its pages have %d x %d, which are read: "
                "it was cropped or scaled without changing the OME-XML",
                *(path, width, height, *image.size),
            )
        own = next((d for d in directories if d.offset == image.keyframe.offset), None)
        for number, other in enumerate(directories):
            if number in named or own is None or other.auxiliary or own.unlike(other):
                continue
            raise ImageError(
                f"{path} has {len(directories)} pages, of which its OME-XML describes "
                f"{len(named)}: page {number} is one of the same kind that it does not speak of; "
                "correct the OME-XML (SizeZ, SizeC, SizeT, TiffData), or write the file again"
            )


def _marks(image: OmeImage) -> set[FileMark]:
    return {block.mark for block in image.blocks}
