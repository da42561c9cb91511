"""`exactile partition`: whole images through any network, split over the ranks of torchrun."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from exactile.errors import SettingsError

if TYPE_CHECKING:
    from exactile.distributed.settings import PartitionSettings
    from exactile.distributed.team import Team

logger = logging.getLogger("exactile")

TIMEOUT_TO_SAY_SO = 60
"""Seconds that ranks with wrong options wait for each other, so that one of them says so."""


def partition(
    inp_dir: Annotated[
        str, typer.Option("--inpDir", help="Folder of the images (or of a folder `images`).")
    ],
    out_dir: Annotated[
        str,
        typer.Option("--outDir", help="Folder for the results, which all ranks see; as segment's."),
    ],
    file_pattern: Annotated[
        str, typer.Option("--filePattern", help="Which files; as for segment.")
    ] = "",
    model: Annotated[
        str,
        typer.Option("--model", help="A model's folder or file, not TorchScript; default bundled."),
    ] = "",
    output: Annotated[str, typer.Option("--output", help="As for segment.")] = "",
    channels: Annotated[str, typer.Option("--channels", help="As for segment.")] = "",
    normalization: Annotated[
        str, typer.Option("--normalization", help="For models that do not say; as for segment.")
    ] = "",
    output_type: Annotated[
        str, typer.Option("--outputType", help="labels, probabilities, logits; default labels.")
    ] = "",
    output_meaning: Annotated[str, typer.Option("--outputMeaning", help="As for segment.")] = "",
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda, cuda:N; default auto.")
    ] = "",
    precision: Annotated[
        str, typer.Option("--precision", help="float32 or bfloat16; default float32.")
    ] = "",
    channel: Annotated[str, typer.Option("--channel", help="As for segment.")] = "",
    mesh: Annotated[
        str,
        typer.Option(
            "--mesh",
            help="Ranks along each split axis, such as 2x2 for Y and X; default: what exchanges "
            "the fewest bytes.",
        ),
    ] = "",
    axes: Annotated[
        str, typer.Option("--axes", help="Which axes are split, such as YX or Z; default any.")
    ] = "",
    timeout: Annotated[
        str,
        typer.Option(
            "--timeout",
            help="Seconds to wait for a rank that neither answers nor ends; default 1800.",
        ),
    ] = "",
) -> None:
    """Segment images of which each process of torchrun has a part; no halo is computed twice.

    Networks that look at the whole image (instance norm, squeeze-and-excitation, ...) run exactly.
    """
    from exactile.devices import limit_threads
    from exactile.distributed.run import Broken
    from exactile.distributed.settings import PartitionSettings
    from exactile.distributed.team import assembled, threads_of_rank
    from exactile.partition import LostRank

    given = {
        "inpDir": inp_dir,
        "outDir": out_dir,
        "filePattern": file_pattern,
        "model": model,
        "output": output,
        "channels": channels,
        "normalization": normalization,
        "outputType": output_type,
        "outputMeaning": output_meaning,
        "device": device,
        "precision": precision,
        "channel": channel,
        "mesh": mesh,
        "axes": axes,
        "timeout": timeout,
        "POLUS_IMG_EXT": os.environ.get("POLUS_IMG_EXT", ""),
    }
    settings, wrong = None, None
    try:
        settings = PartitionSettings.from_options(given)
        limit_threads(os.environ.get("NUM_THREADS") or threads_of_rank())
    except SettingsError as error:
        wrong = error
    try:
        with assembled(settings.timeout if settings else TIMEOUT_TO_SAY_SO) as team:
            code = _run(team, settings, wrong)
    except (LostRank, Broken) as error:
        logger.error("%s", error)
        _leave(1)
    if team.size > 1:
        _leave(code)
    if code:
        raise typer.Exit(code)


def _leave(code: int) -> NoReturn:
    """End the process at once, whatever its threads do.

    After an error, some may still read or write, and must not hold it. And gloo's threads let go of
    the last tensors when they come to it, for which they ask Python: if that is being taken down by
    then, they abort the process after all is done.
    """
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def _run(team: Team, settings: PartitionSettings | None, wrong: SettingsError | None) -> int:
    """Return the exit code: all ranks take part, and the first one speaks."""
    from exactile.distributed.run import partition_collection, prepare
    from exactile.distributed.team import RankError
    from exactile.stopping import Stopped

    if team.rank:
        logger.setLevel(max(logger.level, logging.WARNING))
    try:
        team.agree(wrong)
        assert settings is not None, "without settings, all ranks have raised the error"
        code = 0 if partition_collection(prepare(settings, team)) else 1
    except RankError as error:
        if team.rank == 0:
            logger.error("%s", error)
        code = error.code
    except Stopped as stop:
        if lost := team.who_is_lost():
            stop.add_note(lost)
        raise
    # None ends before the first one has spoken: torchrun would end that one, too.
    team.share(None)
    return code
