"""`exactile inspect`: what a network depends on, and the plan for an image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from exactile.errors import SettingsError

REFUSED = 3
"""The exit code for a network that is refused."""


def inspect(
    model: Annotated[
        str, typer.Option("--model", help="A model's folder or file; default bundled.")
    ] = "",
    output: Annotated[
        str, typer.Option("--output", help="Of several outputs, this one; as for segment.")
    ] = "",
    channels: Annotated[
        str, typer.Option("--channels", help="How many the model takes; as for segment.")
    ] = "",
    image: Annotated[
        str, typer.Option("--image", help="Plan for this image; only its size is read.")
    ] = "",
    size: Annotated[
        str,
        typer.Option(
            "--size",
            help="Plan for an image of this [depth x] height x width: 20000x30000, 64x2048x2048.",
        ),
    ] = "",
    memory: Annotated[
        str,
        typer.Option(
            "--memory", help="What a run may use, such as 8GB; default auto: what is left."
        ),
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Write the facts as JSON; nothing is run.")
    ] = False,
    out_dir: Annotated[
        str, typer.Option("--outDir", help="Folder for inspection.json and a picture of the ERF.")
    ] = "",
) -> None:
    """Say what a network depends on, and why, and plan an image; exit code 3 if it is refused."""
    from exactile.devices import limit_threads
    from exactile.inspection import (
        inspect_model,
        parse_channels,
        parse_memory,
        parse_size,
        try_out,
    )
    from exactile.models.loading import BUNDLED
    from exactile.models.told import Told
    from exactile.report.inspection_page import as_text, print_inspection, write_inspection

    if image and size:
        raise SettingsError("--image and --size both give a size; use one of them")
    limit_threads(os.environ.get("NUM_THREADS"))
    asked = Path(image) if image else parse_size(size) if size else None
    told = Told(output=output or None, channels=parse_channels(channels))
    found = inspect_model(Path(model) if model else BUNDLED, asked, parse_memory(memory), told)
    trial = try_out(found.model, found.asked) if found.model and (out_dir or not as_json) else None
    if as_json:
        typer.echo(as_text(found))
    else:
        print_inspection(Console(), found, trial)
    if out_dir:
        write_inspection(Path(out_dir), found, trial)
    if not found.local:
        raise typer.Exit(REFUSED)
