"""A plane or a volume through the network by exchange: each part is read, run and written.

Contract: the result is that of one pass over the whole padded image, cropped. Memory holds a few
parts' feature maps, within the budget; the others rest beside the image that is being written, in a
file without a name that goes with the process, or, of a GPU, in the host's memory.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor

from exactile.engine import DTYPES, Engine
from exactile.engines.eager import placed
from exactile.finishing import Finishing, OutputType, finish
from exactile.geometry import Box
from exactile.images.sink import Sink
from exactile.partition.outofcore import Parts, Traffic, run_in_parts
from exactile.partition.shelf import FileShelf, HostShelf, Shelf
from exactile.pipeline import NetworkError, Normalized
from exactile.shortage import is_shortage


def exchange_whole(
    image: Normalized,
    parts: Parts,
    kept: Box,
    engine: Engine,
    output_type: OutputType,
    finishing: Finishing,
    sink: Sink,
    advance: Callable[[int], None],
    budget: int,
    folder: Path,
) -> Traffic:
    """Write what the network makes of the plane or volume, as far as it is in `kept`, to `sink`.

    `advance` is told how many pixels were written. Feature maps rest in `folder`.

    Raises:
        ImageError: if the source cannot be read.
        NetworkError: if the network cannot be run.
        NotPartitioned: if an operator has no rule.
        OutputError: if sink or shelf cannot be written.
    """

    def read(box: Box) -> Tensor:
        return placed(image.read(box)[None], engine.device, DTYPES[engine.precision])

    def write(box: Box, values: Tensor) -> None:
        zone = box & kept
        if not zone.size:
            return
        output = values[0].to(torch.float32)[zone.relative_to(box).slices].contiguous()
        sink.write(image.whole, zone, finish(output, output_type, finishing))
        advance(zone.size)

    shelf: Shelf = FileShelf(folder) if engine.device.type == "cpu" else HostShelf()
    try:
        with closing(shelf):
            return run_in_parts(engine.network, parts, read, write, budget, shelf)
    except (RuntimeError, MemoryError) as error:
        hint = "give more by --memory" if is_shortage(error) else "report it with the model"
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        raise NetworkError(
            f"{image.source.path}: the network failed by exchange{notes}: {error}; {hint}"
        ) from error
