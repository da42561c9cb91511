"""Collections with a stitching vector, and the image that the image assembler makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from conftest import noise_image, write_image
from numpy.typing import NDArray

Pixels = NDArray[Any]


@dataclass
class Tiles:
    """Files that lie in a mosaic, in the order of the vector's lines."""

    placed: list[tuple[str, int, int, Pixels]] = field(default_factory=list)
    """Name, y, x, and pixels (..., Y, X)."""

    def add(self, name: str, y: int, x: int, pixels: Pixels) -> None:
        self.placed.append((name, y, x, pixels))

    def write(
        self, folder: Path, vector: Path, write: Callable[[Path, Pixels], object] = write_image
    ) -> None:
        for name, _, _, pixels in self.placed:
            folder.mkdir(parents=True, exist_ok=True)
            write(folder / name, pixels)
        vector.parent.mkdir(parents=True, exist_ok=True)
        vector.write_text("".join(line(n, y, x) for n, y, x, _ in self.placed), encoding="utf-8")

    def assembled(self) -> Pixels:
        """Every pixel of every file, one after the other; zeros elsewhere."""
        height = max(y + pixels.shape[-2] for _, y, _, pixels in self.placed)
        width = max(x + pixels.shape[-1] for _, _, x, pixels in self.placed)
        first = self.placed[0][3]
        whole = np.zeros((*first.shape[:-2], height, width), first.dtype)
        for _, y, x, pixels in self.placed:
            height, width = pixels.shape[-2:]
            whole[..., y : y + height, x : x + width] = pixels
        return whole


def line(name: str, y: int, x: int) -> str:
    return f"file: {name}; corr: 0.9; position: ({x}, {y}); grid: (0, 0);\n"


def grid_of_tiles(
    rows: int, columns: int, side: tuple[int, int], overlap: int = 13, dtype: Any = np.uint16
) -> Tiles:
    """Files that overlap with other pixels, a bit off the grid; their lines are out of order."""
    rng = np.random.default_rng(3)
    tiles = Tiles()
    for number in rng.permutation(rows * columns):
        row, column = divmod(int(number), columns)
        y, x = row * (side[0] - overlap), column * (side[1] - overlap)
        name = f"tile r{row:02} c{column:02}.ome.tif"
        pixels = noise_image(side, seed=int(number), dtype=np.int64) + 100
        if np.dtype(dtype).kind == "f":
            pixels = pixels / 977 - 1
        wobble = rng.integers(0, 5, 2) if row and column else (0, 0)
        tiles.add(name, y + int(wobble[0]), x + int(wobble[1]), pixels.astype(dtype))
    return tiles
