"""`exactile statistics`: what the normalization needs of whole images, measured apart."""

from __future__ import annotations

import os
from typing import Annotated

import typer


def measure_statistics(
    inp_dir: Annotated[
        str, typer.Option("--inpDir", help="Folder of the images (or of a folder `images`).")
    ],
    out_dir: Annotated[
        str, typer.Option("--outDir", help="Folder for exactile/statistics; made if missing.")
    ],
    file_pattern: Annotated[
        str, typer.Option("--filePattern", help="Which files; as for segment.")
    ] = "",
    model: Annotated[
        str, typer.Option("--model", help="The model that segment will run; default bundled.")
    ] = "",
    output: Annotated[str, typer.Option("--output", help="As for segment.")] = "",
    channels: Annotated[str, typer.Option("--channels", help="As for segment.")] = "",
    normalization: Annotated[
        str, typer.Option("--normalization", help="For models that do not say; as for segment.")
    ] = "",
    channel: Annotated[str, typer.Option("--channel", help="As for segment.")] = "",
    shard: Annotated[
        str,
        typer.Option(
            "--shard",
            help="Only this part of the work, such as 0/3; default all, or what the environment "
            "says: JOB_COMPLETION_INDEX and JOB_COMPLETION_COUNT, or RANK and WORLD_SIZE.",
        ),
    ] = "",
) -> None:
    """Measure what the normalization needs of each whole image, once, for segment --statistics."""
    from exactile.devices import limit_threads
    from exactile.report.summary import conclude_measuring
    from exactile.settings import SegmentSettings
    from exactile.shard import ALL, shard_from
    from exactile.statistics.measuring import measure_collection

    given = {
        "inpDir": inp_dir,
        "outDir": out_dir,
        "filePattern": file_pattern,
        "model": model,
        "output": output,
        "channels": channels,
        "normalization": normalization,
        "channel": channel,
    }
    part = shard_from(shard, os.environ) or ALL
    settings = SegmentSettings.from_options(given)
    limit_threads(os.environ.get("NUM_THREADS"))
    if not conclude_measuring(measure_collection(settings, part)):
        raise typer.Exit(1)
