"""The published tables, beside this file as the papers print them.

- JRES: Majurski, M. and Bajcsy, P. (2021), Exact Tile-Based Segmentation Inference for Images
  Larger than GPU Memory, J. Res. NIST 126:126009, doi 10.6028/jres.126.009.
- arXiv: Majurski, M. and Bajcsy, P., Error-Free Semantic Segmentation Inference of Images Larger
  than GPU Memory.

RMSE is over the softmax output, ME the number of misclassified pixels, MER = ME / pixels; all are
means over 20 images against one pass over the whole image. The arXiv tables print no MER: theirs is
ME divided by the pixels of an image. The relative runtime is against the whole-image pass, with
image I/O and the loading of the model.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

IMAGES = 20
"""Number of images behind every published figure."""

_SIDES = {
    "jres_unet_trained_tile512": 3584,
    "jres_unet_untrained_tile1024": 3584,
    "jres_fcdensenet56_tile1152": 2304,
    "arxiv_unet_trained_tile512": 3824,
    "arxiv_unet_untrained_tile1024": 3824,
    "arxiv_modified_unet_tile1032": 3824,
}

_PAPERS = {"jres": "JRES", "arxiv": "arXiv"}


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One row of a published table."""

    zone: int
    """Side of the zone of responsibility, in pixels."""
    halo: int
    """On all four sides, in pixels."""
    rmse: float
    me: float
    mer: float
    relative_runtime: float | None
    """None where the paper gives none."""


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table of one of the two papers."""

    name: str
    paper: str
    """JRES or arXiv."""
    side: int
    """Side of the square images, in pixels."""
    rows: tuple[PublishedRow, ...]

    def row(self, halo: int) -> PublishedRow | None:
        """Return the row for `halo`, if the paper has one."""
        return next((row for row in self.rows if row.halo == halo), None)


@cache
def published_table(name: str) -> PublishedTable:
    """Return the table in the file called `name`, without its ending."""
    side = _SIDES[name]
    lines = (files(__name__) / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    rows = tuple(_row(fields, side) for fields in csv.DictReader(lines))
    return PublishedTable(name, _PAPERS[name.partition("_")[0]], side, rows)


def _row(fields: dict[str, str], side: int) -> PublishedRow:
    me = float(fields["me"])
    return PublishedRow(
        zone=int(fields["zor"]),
        halo=int(fields["radius"] if "radius" in fields else fields["halo"]),
        rmse=float(fields["rmse"]),
        me=me,
        mer=float(fields["mer"]) if "mer" in fields else me / side**2,
        relative_runtime=(
            float(fields["relative_runtime"]) if "relative_runtime" in fields else None
        ),
    )
