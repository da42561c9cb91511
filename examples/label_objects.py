"""From class numbers to objects: every connected region of a class gets a number of its own.

    python label_objects.py --inpDir labels --outDir objects

nyxus, and all that measures objects, takes each number in a mask for one object; `exactile segment`
writes classes. Regions are connected by edges, not by corners, numbered from 1 in each plane, and
0 stays 0. An image is read twice, in bands of rows: what touches across two bands is joined in
between, so memory grows with the width of the image and the number of regions, not with its height.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from exactile.errors import ExactileError, ImageError
from exactile.geometry import Box, Interval
from exactile.images import (
    DEFAULT_PATTERN,
    OmeTiffSink,
    OutputImage,
    Plane,
    Source,
    collect,
    open_source,
)

BAND_ROWS = 1024

Numbers = NDArray[np.uint32]


def label_image(path: Path, result: Path) -> None:
    """Write the objects of the class numbers in `path` to `result`: uint32, the same planes.

    Raises ImageError for what holds no class numbers, or cannot be read.
    """
    with open_source(path) as source:
        if source.dtype.kind not in "iu" or source.size_c != 1:
            raise ImageError(
                f"{path} holds {source.size_c} channels of {source.dtype}, not one of class "
                "numbers: give what exactile segment --outputType labels writes"
            )
        image = OutputImage(
            source.shape,
            np.dtype(np.uint32),
            size_t=source.size_t,
            size_z=source.size_z,
            metadata=source.metadata,
        )
        with OmeTiffSink(result, image) as sink:
            for plane in source.planes:
                table = join_regions(source, plane)
                for box, _, numbers in bands(source, plane):
                    sink.write(plane, box, table[numbers][np.newaxis])


def join_regions(source: Source, plane: Plane) -> Numbers:
    """Return the final number of each region's number in its band; 0 is 0."""
    touching = [np.empty((0, 2), np.uint32)]
    above: tuple[NDArray[np.integer], Numbers] | None = None
    count = 0
    for _, classes, numbers in bands(source, plane):
        if above is not None:
            same = (above[0] == classes[0]) & (classes[0] != 0)
            pairs = np.stack([above[1][same], numbers[0][same]], axis=-1)
            touching.append(np.unique(pairs, axis=0))
        above = classes[-1].copy(), numbers[-1].copy()
        count = max(count, int(numbers.max()))
    first, second = np.concatenate(touching).T
    graph = sparse.coo_array((np.ones(first.size, bool), (first, second)), (count + 1, count + 1))
    _, component = sparse.csgraph.connected_components(graph, directed=False)
    return component.astype(np.uint32)


def bands(source: Source, plane: Plane) -> Iterator[tuple[Box, NDArray[np.integer], Numbers]]:
    """Yield each band of rows: its place, its classes (Y, X), and its regions, numbered on."""
    height, width = source.shape
    begun = 0
    for top in range(0, height, BAND_ROWS):
        rows = Interval(top, min(top + BAND_ROWS, height))
        box = Box((rows, Interval(0, width)))
        classes = source.read(plane, (0,), box)[0]
        numbers = np.zeros(classes.shape, np.uint32)
        for value in np.unique(classes[classes != 0]):
            regions, found = ndimage.label(classes == value)
            inside = regions != 0
            numbers[inside] = regions[inside] + begun
            begun += found
        yield box, classes, numbers


def main() -> None:
    """Label every image of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inpDir", dest="inp_dir", type=Path, required=True)
    parser.add_argument("--outDir", dest="out_dir", type=Path, required=True)
    given = parser.parse_args()
    try:
        images = collect(given.inp_dir, DEFAULT_PATTERN)
        given.out_dir.mkdir(parents=True, exist_ok=True)
        for path in images:
            label_image(path, given.out_dir / path.name)
    except ExactileError as error:
        sys.exit(f"label_objects: {error}")


if __name__ == "__main__":
    main()
