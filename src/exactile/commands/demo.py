"""`exactile demo`: a synthetic slide, segmented, measured and drawn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def demo(
    out_dir: Annotated[
        Path, typer.Option("--outDir", help="Folder for the slide, its labels and the picture.")
    ] = Path("exactile-demo"),
    size: Annotated[
        int, typer.Option("--size", min=64, help="Side of the slide in pixels.")
    ] = 4096,
) -> None:
    """Make a synthetic slide, segment it with the bundled model, measure it and draw it."""
    from exactile.demo import demonstrate
    from exactile.devices import limit_threads
    from exactile.report.progress import make_watcher
    from exactile.report.summary import describe_demonstration

    limit_threads(os.environ.get("NUM_THREADS"))
    with make_watcher(Console(stderr=True)) as watcher:
        made = demonstrate(out_dir, (size, size), watcher)
    typer.echo(describe_demonstration(made))
