"""`exactile reproduce`: the papers' tables and figure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def reproduce(
    out_dir: Annotated[
        Path, typer.Option("--outDir", help="Folder for report.md, tables and plots.")
    ] = Path("exactile-reproduction"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Smaller networks and images: minutes on two cores.")
    ] = False,
    images: Annotated[
        int | None, typer.Option("--images", help="Images of each experiment; published: 20.")
    ] = None,
    width: Annotated[
        int | None,
        typer.Option("--width", help="Base width of the untrained U-Nets; published: 64."),
    ] = None,
    rows: Annotated[
        int | None, typer.Option("--rows", help="At most so many pixels along Y: less memory.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda, cuda:N; default auto.")
    ] = "auto",
) -> None:
    """Repeat the papers' tables and figure, side by side with the published numbers."""
    from exactile.devices import choose_device, limit_threads
    from exactile.report.progress import make_watcher
    from exactile.reproduce import choose_form
    from exactile.reproduce import reproduce as repeat

    limit_threads(os.environ.get("NUM_THREADS"))
    form = choose_form(quick=quick, images=images, width=width, rows=rows)
    with make_watcher(Console(stderr=True)) as watcher:
        made = repeat(out_dir, form, choose_device(device), watcher)
    typer.echo(made.describe())
