"""Programs of `torch.export`: a graph of ATen operators with its weights, and the sizes it takes.

What an export was made for is written in it: a program without dynamic sizes is refused at once,
with the one size that it takes.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from exactile.errors import ModelError
from exactile.models.formats.content import (
    LOADING_ERRORS,
    digest_of,
    first_line,
    prepared,
    read_content,
)
from exactile.models.formats.exported_archive import harmless_archive
from exactile.models.formats.exported_outputs import choose_output
from exactile.models.formats.trial import try_out
from exactile.models.network_file import NetworkFile

DYNAMIC = (
    "export it again with dynamic sizes: torch.export.export(model.eval(), (image,), "
    "dynamic_shapes=({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},))"
)

AXES = {4: "YX", 5: "ZYX"}
"""Names of the spatial axes by the number of dimensions of the input."""

ENOUGH = 1 << 15
"""A program whose largest size is this or more counts as one that takes any."""


def load_exported(path: Path, output: str | None = None) -> NetworkFile:
    """Load the program that `torch.export.save` wrote to `path`; of several outputs, `output`.

    Raises:
        ModelError: if it cannot be loaded, has not one input, or not the output, only takes some
            sizes, or would have to be executed to be loaded.
    """
    content = read_content(path)
    checked = harmless_archive(content, str(path))
    try_out(lambda _: _network(checked, output, str(path))[:3], len(checked), str(path))
    network, channels, dimensions, outputs, chosen = _network(checked, output, str(path))
    return NetworkFile(
        name=path.stem,
        version="",
        format="torch.export",
        network=network,
        sha256=digest_of(content),
        channels=channels,
        dimensions=dimensions,
        outputs=outputs,
        output=chosen,
    )


def _network(
    checked: bytes, output: str | None, what: str
) -> tuple[nn.Module, int | None, int, tuple[str, ...], str]:
    """Return network, channels where they are fixed, axes, names of outputs, and the one chosen."""
    program = _load(checked, what)
    shape = _input_shape(program, what)
    _check_sizes(shape, program.range_constraints, what)
    try:
        network, outputs, chosen = choose_output(program, output, what)
    except LOADING_ERRORS as error:
        raise ModelError(
            f"{what}: its program cannot be run: {first_line(error)}; {DYNAMIC}"
        ) from error
    channels = shape[1] if isinstance(shape[1], int) else None
    return prepared(network, what), channels, len(shape) - 2, outputs, chosen


def _load(archive: bytes, what: str) -> torch.export.ExportedProgram:
    try:
        with _quiet("torch.export"):
            return torch.export.load(io.BytesIO(archive))
    except LOADING_ERRORS as error:
        raise ModelError(
            f"{what}: cannot be loaded as a program of torch.export: {first_line(error)}; export "
            f"it again with torch {torch.__version__.partition('+')[0]}"
        ) from error


def _input_shape(program: torch.export.ExportedProgram, what: str) -> tuple[Any, ...]:
    """Return the shape of the one input: numbers where sizes are fixed, symbols elsewhere."""
    signature = program.graph_signature
    inputs = signature.user_inputs
    if len(inputs) != 1:
        raise ModelError(
            f"{what}: takes {len(inputs)} inputs ({', '.join(map(str, inputs))}), but networks of "
            "one image are run here; wrap it so that it takes the image alone, and export that"
        )
    node = next(node for node in program.graph.nodes if node.name == inputs[0])
    shape = tuple(getattr(node.meta.get("val"), "shape", ()))
    if len(shape) not in AXES:
        raise ModelError(
            f"{what}: takes {len(shape)} dimensions; export a network that takes (N, channels, Y, "
            "X), or (N, channels, Z, Y, X)"
        )
    return shape


def _check_sizes(shape: tuple[Any, ...], ranges: Any, what: str) -> None:
    """Refuse a program that does not take every size along every spatial axis."""
    extent = shape[2:]
    if any(isinstance(side, int) for side in extent):
        only = " x ".join(str(side) if isinstance(side, int) else "any" for side in extent)
        raise ModelError(f"{what}: this export only takes {only} pixels; {DYNAMIC}")
    if isinstance(shape[0], int) and shape[0] != 1:
        raise ModelError(
            f"{what}: this export only takes batches of {shape[0]} images; export it with a batch "
            "of one"
        )
    expressions = [side.node.expr for side in extent]
    for place, expression in enumerate(expressions):
        most = expression.subs({s: ranges[s].upper for s in expression.free_symbols if s in ranges})
        if most.is_Integer and int(most) < ENOUGH:
            raise ModelError(
                f"{what}: this export only takes up to {most} pixels along "
                f"{AXES[len(shape)][place]}; export it again without a largest size"
            )
        for earlier in expressions[:place]:
            if earlier.free_symbols & expression.free_symbols:
                raise ModelError(
                    f"{what}: this export only takes images whose sides depend on each other "
                    f"({earlier} x {expression} pixels); {DYNAMIC}"
                )


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a logger from printing tracebacks of errors that are raised as well."""
    logger = logging.getLogger(name)
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled
