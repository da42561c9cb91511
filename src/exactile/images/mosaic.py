"""A mosaic: the files of a collection, placed in one large image that is never written.

    line 1  +-----------+
            |       +---|-------+  line 2: where files overlap, later lines overwrite
            |       |           |
            +-------|           |
      0 0 0 0 0 0 0 |           |  where no file is, there are zeros
                    +-----------+

The same rules as the image assembler's, so that the mosaic has the pixels of the assembled image.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from exactile.errors import CollectionError
from exactile.images.digest import FileDigest
from exactile.images.links import is_plain_name
from exactile.images.stitching_vector import Placement, read_vector

_NAMED = 5
"""So many missing files are named in a message."""


@dataclass(frozen=True)
class Mosaic:
    """Which files lie where."""

    vector: Path
    """The stitching vector."""
    folder: Path
    """The folder of the files."""
    placements: tuple[Placement, ...]
    """The lines of the vector, in their order."""

    def path(self, placement: Placement) -> Path:
        """Return the file of a line."""
        return self.folder / placement.name

    def digest(self) -> FileDigest:
        """Return the bytes of all files together, and a digest of what they hold and where.

        Raises OSError.
        """
        count, digest = 0, hashlib.sha256()
        for each in self.placements:
            file = FileDigest.of(self.path(each))
            count += file.bytes
            digest.update(f"{each.name}\n{each.y}\n{each.x}\n{file.sha256}\n".encode())
        return FileDigest(count, digest.hexdigest())


def read_mosaic(vector: Path, inp_dir: Path) -> Mosaic:
    """Return the mosaic of `vector`, of the files in `inp_dir`; no image is opened.

    Where `inp_dir` has none of the files but a sub-folder `images`, as the raw output of a workflow
    step has, they are looked for there.

    Raises:
        CollectionError: if the vector cannot be used, or names files that are not there.
    """
    if not inp_dir.is_dir():
        raise CollectionError(f"{inp_dir} is not a folder: give the folder of images")
    placements = read_vector(vector)
    folder, lacking = inp_dir, _lacking(inp_dir, placements)
    chained = inp_dir / "images"
    if len(lacking) == len(placements) and chained.is_dir():
        folder, lacking = chained, _lacking(chained, placements)
    if lacking:
        named = ", ".join(f"{each.name} (line {each.line})" for each in lacking[:_NAMED])
        more = len(lacking) - _NAMED
        raise CollectionError(
            f"{vector} places {len(lacking)} of {len(placements)} files that are not in {folder}: "
            f"{named}{f', and {more} more' if more > 0 else ''}; add them, or remove their lines"
        )
    return Mosaic(vector, folder, placements)


def _lacking(folder: Path, placements: tuple[Placement, ...]) -> list[Placement]:
    """Return the lines whose file is not in `folder` itself."""
    return [each for each in placements if not _is_in(folder, each.name)]


def _is_in(folder: Path, name: str) -> bool:
    """Return whether `folder` has an entry `name`; a name that no file can have is not there."""
    try:
        return is_plain_name(name) and (folder / name).exists()
    except OSError:
        return False
