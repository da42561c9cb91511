"""`exactile segment`: the main job."""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer
from rich.console import Console

logger = logging.getLogger(__name__)


def segment(
    inp_dir: Annotated[
        str, typer.Option("--inpDir", help="Folder of the images (or of a folder `images`).")
    ],
    out_dir: Annotated[
        str, typer.Option("--outDir", help="Folder for the results; made if it is missing.")
    ],
    file_pattern: Annotated[
        str,
        typer.Option(
            "--filePattern",
            help=r"Which files: a filepattern on whole names; default .*\.ome\.(?:tiff?|zarr)",
        ),
    ] = "",
    stitching_vector: Annotated[
        str,
        typer.Option(
            "--stitchingVector",
            help="Segment the mosaic that this vector, or each in this folder, makes of the files.",
        ),
    ] = "",
    mosaic_output: Annotated[
        str,
        typer.Option(
            "--mosaicOutput",
            help="image (one for each mosaic), or files (as those of the input); default image.",
        ),
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="A model's folder or file: card, bioimage.io, .pt, .ts, .pt2, .onnx; default "
            "bundled.",
        ),
    ] = "",
    output: Annotated[
        str,
        typer.Option(
            "--output", help="Of a model's several outputs, this one: its name, or place from 0."
        ),
    ] = "",
    channels: Annotated[
        str,
        typer.Option("--channels", help="How many the model takes, if its file does not say."),
    ] = "",
    normalization: Annotated[
        str,
        typer.Option(
            "--normalization",
            help="For models that do not say: none, zscore, minmax, percentile:lo:hi, "
            "scale:gain:offset; default zscore.",
        ),
    ] = "",
    statistics: Annotated[
        str,
        typer.Option(
            "--statistics",
            help="What `exactile statistics` wrote, its --outDir; default: measure each image.",
        ),
    ] = "",
    output_type: Annotated[
        str, typer.Option("--outputType", help="labels, probabilities, logits; default labels.")
    ] = "",
    output_meaning: Annotated[
        str,
        typer.Option(
            "--outputMeaning",
            help="logits, probabilities, classes; default auto: what the last operators prove.",
        ),
    ] = "",
    strategy: Annotated[
        str, typer.Option("--strategy", help="auto, tile, exchange; default auto.")
    ] = "",
    tile_size: Annotated[
        str,
        typer.Option(
            "--tileSize", help="Window side in pixels, halos included, or auto; default auto."
        ),
    ] = "",
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda, cuda:N; default auto.")
    ] = "",
    precision: Annotated[
        str, typer.Option("--precision", help="float32 or bfloat16; default float32.")
    ] = "",
    engine: Annotated[
        str,
        typer.Option(
            "--engine", help="auto, eager, compile or openvino; default auto, the fastest."
        ),
    ] = "",
    memory: Annotated[
        str,
        typer.Option("--memory", help="What may be used, such as 8GB; default auto: what is left."),
    ] = "",
    channel: Annotated[
        str,
        typer.Option("--channel", help="Channels for the model, from 0: 1, or 0,2; default all."),
    ] = "",
    verify: Annotated[
        str,
        typer.Option("--verify", help="Run so many zones again in larger windows; default 0."),
    ] = "",
    resume: Annotated[
        str,
        typer.Option(
            "--resume",
            help="Go on with what an interrupted run left: true, false (begin anew), or auto: if "
            "all matches; default auto.",
        ),
    ] = "",
    shard: Annotated[
        str,
        typer.Option(
            "--shard",
            help="Only the part i of n of the work, i from 0: 0/3; default all, or what the "
            "environment says (JOB_COMPLETION_INDEX and _COUNT, RANK and WORLD_SIZE).",
        ),
    ] = "",
    pyramid: Annotated[
        bool, typer.Option("--pyramid", help="Write smaller levels too, for viewers.")
    ] = False,
    zarr_version: Annotated[
        str,
        typer.Option("--zarrVersion", help="Of results in OME-Zarr: 0.4 or 0.5; default 0.4."),
    ] = "",
    preview: Annotated[
        bool, typer.Option("--preview", help="Only write outDir/preview.json, and stop.")
    ] = False,
) -> None:
    """Segment a folder of OME-TIFF images, bit-equal to a pass over each whole image."""
    from exactile.devices import limit_threads
    from exactile.outputs import write_preview
    from exactile.report.progress import make_watcher
    from exactile.report.run_page import RunPage
    from exactile.report.summary import conclude
    from exactile.segment import segment_collection
    from exactile.settings import SegmentSettings
    from exactile.shard import shard_from

    given = {
        "inpDir": inp_dir,
        "outDir": out_dir,
        "filePattern": file_pattern,
        "stitchingVector": stitching_vector,
        "mosaicOutput": mosaic_output,
        "model": model,
        "output": output,
        "channels": channels,
        "normalization": normalization,
        "statistics": statistics,
        "outputType": output_type,
        "outputMeaning": output_meaning,
        "strategy": strategy,
        "tileSize": tile_size,
        "device": device,
        "precision": precision,
        "engine": engine,
        "memory": memory,
        "channel": channel,
        "verify": verify,
        "resume": resume,
        "shard": shard_from(shard, os.environ),
        "pyramid": pyramid,
        "zarrVersion": zarr_version,
        "preview": preview,
        "POLUS_IMG_EXT": os.environ.get("POLUS_IMG_EXT", ""),
    }
    settings = SegmentSettings.from_options(given)
    if settings.preview:
        logger.info("wrote %s", write_preview(settings))
        return
    limit_threads(os.environ.get("NUM_THREADS"))
    with make_watcher(Console(stderr=True)) as watcher:
        page = RunPage(settings)
        complete = conclude(page.follow(segment_collection(settings, watcher)))
    if settings.shard is None:  # parts of images make no pictures
        page.write()
    if not complete:
        raise typer.Exit(1)
