"""Which of the images in a TIFF is meant.

A slide holds its label, a picture of the whole glass and thumbnails besides, often first. Those are
never meant. Of what is left, there is one; or one that is far larger than all others is the image;
or nobody has said which is, and the file is refused with a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from exactile.errors import ImageError
from exactile.images.series_images import is_auxiliary
from exactile.images.tiff_image import TiffImage

LARGER = 3
"""So many times the pixels of any other has an image that is taken without being named.

Less than the 4 of a pyramid, whose sides are rounded up."""

ONLY_SERIES = "1 of 1"
"""What is said of the image of a file that holds no other."""

_LISTED = 8


def choose_image(images: Sequence[TiffImage], path: Path) -> tuple[TiffImage, str]:
    """Return the image of a file that is meant, and in words which it is and what is not read.

    Raises ImageError where several could be.
    """
    meant = [image for image in images if not image.auxiliary]
    meant = [image for image in meant if not is_auxiliary(image.name)] or meant or list(images)
    by_size = sorted(meant, key=lambda image: image.pixels, reverse=True)
    chosen = by_size[0]
    rival = by_size[1] if len(by_size) > 1 else None
    # A name is no proof, where the format itself does not say what it stands for.
    hidden = any(image.pixels > chosen.pixels for image in images if not image.auxiliary)
    if hidden or (rival is not None and rival.pixels * LARGER > chosen.pixels):
        raise ImageError(
            f"{path} holds {len(images)} images, and it is not said which is meant: "
            f"{_listed(images)}; write the one that is into a file of its own (bfconvert -series)"
        )
    if len(images) == 1:
        return chosen, ONLY_SERIES
    number = next(number for number, image in enumerate(images, 1) if image is chosen)
    others = _listed([image for image in images if image is not chosen])
    return chosen, f"{number} of {len(images)}: {chosen}; not read: {others}"


def _listed(images: Sequence[TiffImage]) -> str:
    more = len(images) - _LISTED
    return ", ".join(map(str, images[:_LISTED])) + (f" and {more} more" if more > 0 else "")
