"""`exactile assemble`: whole images from the parts of shards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from exactile.errors import SettingsError


def assemble(
    inp_dir: Annotated[
        str, typer.Option("--inpDir", help="Folder of the parts: the outDir of all shards.")
    ],
    out_dir: Annotated[
        str,
        typer.Option(
            "--outDir",
            help="Folder for the whole images; made if it is missing. For OME-Zarr, it may be that "
            "of the parts.",
        ),
    ],
) -> None:
    """Put the parts that `segment --shard` wrote together: the bytes of a run without shards."""
    from exactile.assembly import assemble_collection
    from exactile.devices import limit_threads
    from exactile.report.summary import conclude_assembly

    for option, folder in (("--inpDir", inp_dir), ("--outDir", out_dir)):
        if not folder:
            raise SettingsError(f"{option} is missing")
    limit_threads(os.environ.get("NUM_THREADS"))
    if not conclude_assembly(assemble_collection(Path(inp_dir), Path(out_dir))):
        raise typer.Exit(1)
