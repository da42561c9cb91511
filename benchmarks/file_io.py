"""Reading alone and writing alone, in MB/s of raw pixels.

    python benchmarks/file_io.py [--size 8192]

Reading: the windows of a run, in its order, with the bundled model's halo, from tiled files of each
compression; a pixel counts once however many windows hold it, and `decoded` says how often the
program decodes a tile for the windows, beside the pass for the statistics that reads each once.
Writing: labels and probabilities zone by zone, until the file has its name. Slides are realistic,
since what compresses well is also decoded faster; files are warm, a first round is not counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from bench import (
    PERIOD,
    PIECE,
    Shape,
    cells,
    in_turn,
    machine,
    pieces,
    shape_name,
    shape_of,
    spread,
    table,
    temporary_folder,
)
from numpy.typing import NDArray

from exactile.allocation import prepare
from exactile.geometry import Box, Interval
from exactile.images import OmeTiffSink, OutputImage, Plane, open_source
from exactile.models.loading import BUNDLED, load_model
from exactile.synthetic import slide
from exactile.tiling import Plan, plan
from exactile.traversal import in_bands

COMPRESSIONS = ("none", "deflate", "zstd", "lzw")
TYPES = ("uint16", "uint8")
SIDES = (1024, 256)


@dataclass(frozen=True)
class Reading:
    """How long a way of reading took, and how often it decoded a tile."""

    seconds: float
    decoded: float


@dataclass(frozen=True)
class Writing:
    """How long it took to write, and how large the file is."""

    seconds: float
    file_bytes: int


def write_tiled(path: Path, shape: Shape, dtype: str, side: int, compression: str) -> None:
    """Write a slide in tiles of `side`, streamed; bytes are the upper ones of the camera counts."""
    shown = pieces(PERIOD)
    whole = np.block([[shown[row, column] for column in range(PERIOD)] for row in range(PERIOD)])
    if dtype == "uint8":
        whole = (whole >> 5).clip(0, 255).astype(np.uint8)

    def tiles() -> Iterator[NDArray[Any]]:
        for row in range(0, shape[0], side):
            for column in range(0, shape[1], side):
                y, x = row % len(whole), column % len(whole)
                yield whole[y : y + side, x : x + side]

    name = {"none": None, "deflate": "zlib"}.get(compression, compression)
    tifffile.imwrite(
        path, tiles(), shape=shape, dtype=dtype, tile=(side, side), compression=name, bigtiff=True
    )


def read_windows(path: Path, tiling: Plan, threads: int) -> Reading:
    """Read every window of `tiling`, in the order of a run, and count the chunks decoded."""
    decoded = 0
    with open_source(path, threads=threads) as source:
        decode = source.read_chunk

        def counted(*place: Any) -> NDArray[Any]:
            nonlocal decoded
            decoded += 1
            return decode(*place)

        source.read_chunk = counted  # type: ignore[method-assign]
        zones = in_bands([tile.zone for tile in tiling.tiles()], tiling, source, 1)
        image = Box.of_shape(source.shape)
        begun = time.perf_counter()
        for zone in zones:
            source.read(Plane(0, 0), (0,), tiling.tile(zone).window & image)
        seconds = time.perf_counter() - begun
        rows, columns = (-(-n // s) for n, s in zip(source.shape, source.chunk, strict=True))
    return Reading(seconds, decoded / (rows * columns))


def read_once(path: Path, threads: int) -> Reading:
    """Read every tile once, as the statistics do."""
    begun = time.perf_counter()
    with open_source(path, threads=threads) as source:
        for _ in source.read_all(Plane(0, 0), (0,)):
            pass
    return Reading(time.perf_counter() - begun, 1)


def outputs() -> dict[str, dict[tuple[int, int], NDArray[Any]]]:
    """Return what is written, by type of output: the synthetic truth, and as soft numbers."""
    rng = np.random.default_rng(0)
    found: dict[str, dict[tuple[int, int], NDArray[Any]]] = {"labels": {}, "probabilities": {}}
    for row in range(PERIOD):
        for column in range(PERIOD):
            y, x = (Interval(i * PIECE, (i + 1) * PIECE) for i in (row, column))
            truth = slide(Box((y, x)))[1]
            logits = 6 * truth - 3 + rng.standard_normal(truth.shape, dtype=np.float32)
            soft = 1 / (1 + np.exp(-logits, dtype=np.float32))
            found["labels"][row, column] = truth[None]
            found["probabilities"][row, column] = np.stack([1 - soft, soft])
    return found


def write_pieces(
    path: Path, shape: Shape, shown: dict[tuple[int, int], NDArray[Any]], threads: int
) -> Writing:
    """Write an image piece by piece, until the file is finished."""
    channels, dtype = len(shown[0, 0]), shown[0, 0].dtype
    begun = time.perf_counter()
    with OmeTiffSink(path, OutputImage(shape, dtype, size_c=channels), threads=threads) as sink:
        for place, box in cells(shape):
            inside = Box.of_shape(box.shape).slices
            sink.write(Plane(0, 0), box, shown[place][(slice(None), *inside)])
    return Writing(time.perf_counter() - begun, path.stat().st_size)


def report_reading(folder: Path, arguments: argparse.Namespace) -> None:
    shape: Shape = arguments.size
    locality = load_model(BUNDLED, None).locality
    tiling = plan(shape, locality, arguments.tile)
    files: dict[tuple[str, int, str], Path] = {}
    for dtype in TYPES:
        for side in SIDES:
            for compression in arguments.compressions:
                path = folder / f"{dtype}-{side}-{compression}.tif"
                write_tiled(path, shape, dtype, side, compression)
                files[dtype, side, compression] = path
    threads = arguments.threads
    by_window = {str(k): partial(read_windows, path, tiling, threads) for k, path in files.items()}
    by_tile = {str(k): partial(read_once, path, threads) for k, path in files.items()}
    in_turn(by_tile, 1)
    windows, once = (in_turn(runs, arguments.rounds) for runs in (by_window, by_tile))
    rows = []
    for key, path in files.items():
        raw = shape[0] * shape[1] * np.dtype(key[0]).itemsize / 1e6
        found = windows[str(key)]
        rows.append(
            (
                *key,
                f"{path.stat().st_size / 1e6:.0f}",
                spread([raw / reading.seconds for reading in found], 0),
                f"{found[0].decoded:.2f}",
                spread([raw / reading.seconds for reading in once[str(key)]], 0),
            )
        )
    print(f"Reading, {tiling.count} windows of {' x '.join(map(str, tiling.window))}:\n")
    header = ("type", "tile", "compression", "file MB", "windows, MB/s", "decoded", "once, MB/s")
    print(table(header, rows) + "\n")


def report_writing(folder: Path, arguments: argparse.Namespace) -> None:
    shape: Shape = arguments.size
    runs = {
        name: partial(write_pieces, folder / f"{name}.ome.tif", shape, shown, arguments.threads)
        for name, shown in outputs().items()
    }
    rows = []
    in_turn(runs, 1)
    for name, taken in in_turn(runs, arguments.rounds).items():
        raw = shape[0] * shape[1] * (1 if name == "labels" else 8) / 1e6
        speed = spread([raw / writing.seconds for writing in taken], 0)
        rows.append((name, f"{raw:.0f}", f"{taken[0].file_bytes / 1e6:.0f}", speed))
    print("Writing, until the file has its name:\n")
    print(table(("output", "raw MB", "file MB", "MB/s"), rows))


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=shape_of, default=(8192, 8192), help="8192, or 32768x16384")
    parser.add_argument("--compressions", nargs="+", choices=COMPRESSIONS, default=COMPRESSIONS)
    parser.add_argument("--tile", type=int, default=1216, help="side of the windows that are read")
    parser.add_argument("--threads", type=int, default=1, help="that decode or compress")
    parser.add_argument(
        "--rounds", type=int, default=2, help="how often each file is read, in turn"
    )
    parser.add_argument("--folder", type=Path, help="for the temporary files, which take space")
    arguments = parser.parse_args(words)
    prepare()
    with temporary_folder(arguments) as temporary:
        print(f"{machine()}\n\n{shape_name(arguments.size)}, {arguments.threads} threads.\n")
        report_reading(Path(temporary), arguments)
        report_writing(Path(temporary), arguments)


if __name__ == "__main__":
    main()
