"""The command line: options in, exit codes out. What is done lives elsewhere.

Exit codes: 0 done; 1 an image failed, or nothing could be done; 2 wrong options; 3 a network that
`inspect` refuses; 130 and 143 when interrupted or terminated.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from exactile import __version__
from exactile.allocation import prepare
from exactile.errors import ExactileError, SettingsError
from exactile.report.logs import log_to_stderr
from exactile.stopping import Stopped, stoppable
from exactile.temporary import do_without_temporary_files

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Exact tile-based segmentation of images larger than memory.",
)
logger = logging.getLogger("exactile")

BOOLEAN_OPTIONS = ("--preview", "--pyramid")
WITHOUT_VALUE = {"--resume": "true"}
"""What an option means that stands alone, followed by another one or by nothing."""
REFUSED = 3


def main() -> None:
    """Run the command line, and turn what goes wrong into one message and an exit code."""
    try:
        with stoppable():
            log_to_stderr(os.environ.get("POLUS_LOG", ""))
            prepare()
            do_without_temporary_files()
            app(args=plain_booleans(sys.argv[1:]))
    except ExactileError as error:
        logger.error("%s", error)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    except Stopped as stop:
        logger.error("%s", stop.sentence())
        sys.exit(stop.exit_code)


def plain_booleans(arguments: list[str]) -> list[str]:
    """Return `arguments` with `--flag true` and `--flag True` as `--flag`, and false ones dropped.

    Workflow engines send booleans in any of these forms; a blank counts as absent.
    """
    result: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word in WITHOUT_VALUE and (not rest or rest[0].startswith("--")):
            word = f"{word}={WITHOUT_VALUE[word]}"
        if name not in BOOLEAN_OPTIONS:
            result.append(word)
            continue
        if not equals and rest and rest[0].lower() in ("true", "false", ""):
            equals, value = "=", rest.pop(0)
        if not equals or value.lower() == "true":
            result.append(name)
        elif value.lower() not in ("false", ""):
            raise SettingsError(f"{name} {value!r} is neither true nor false")
    return result


def _version(show: bool) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """Exact tile-based segmentation of images larger than memory."""


@app.command()
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
        "normalization": normalization,
        "statistics": statistics,
        "outputType": output_type,
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


@app.command(name="statistics")
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
        "normalization": normalization,
        "channel": channel,
    }
    part = shard_from(shard, os.environ) or ALL
    settings = SegmentSettings.from_options(given)
    limit_threads(os.environ.get("NUM_THREADS"))
    if not conclude_measuring(measure_collection(settings, part)):
        raise typer.Exit(1)


@app.command()
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


@app.command()
def inspect(
    model: Annotated[
        str, typer.Option("--model", help="A model's folder or file; default bundled.")
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
        parse_memory,
        parse_size,
        try_out,
    )
    from exactile.models.loading import BUNDLED
    from exactile.report.inspection_page import as_text, print_inspection, write_inspection

    if image and size:
        raise SettingsError("--image and --size both give a size; use one of them")
    limit_threads(os.environ.get("NUM_THREADS"))
    asked = Path(image) if image else parse_size(size) if size else None
    found = inspect_model(Path(model) if model else BUNDLED, asked, parse_memory(memory))
    trial = try_out(found.model, found.asked) if found.model and (out_dir or not as_json) else None
    if as_json:
        typer.echo(as_text(found))
    else:
        print_inspection(Console(), found, trial)
    if out_dir:
        write_inspection(Path(out_dir), found, trial)
    if not found.local:
        raise typer.Exit(REFUSED)


@app.command()
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


@app.command()
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
