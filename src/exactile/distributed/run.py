"""The job: a collection in, a collection out, by all ranks together, one image after the other.

For every image: is it finished? Then, for each plane or volume: its statistics, the forward pass,
and the tiles of the result on the disk. At last the first rank puts the file together. What fails
on one rank fails on all, and the next image is begun.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from exactile.certificate import StepRecord, written_beside
from exactile.devices import choose_device
from exactile.distributed.arrangement import Arrangement, arrange, check_asked
from exactile.distributed.forward import Exchanged, Parts, run_whole
from exactile.distributed.measuring import fit_together
from exactile.distributed.network import load_network
from exactile.distributed.record import Result, certificate, identify
from exactile.distributed.settings import PartitionSettings
from exactile.distributed.team import Team
from exactile.distributed.writing import TileFile, adopt_tiles, write_parts
from exactile.engines.eager import EagerEngine, make_engine
from exactile.errors import ExactileError, ImageError, ModelError, PlanError
from exactile.finished import is_finished
from exactile.images import OutputImage, Plane, Source, Whole, open_sink, open_source
from exactile.images.digest import FileDigest
from exactile.images.storing_sink import StoringSink
from exactile.inputs import digest_of
from exactile.models.extent import check_extent
from exactile.models.model import Model
from exactile.outputs import make_folder, plan_outputs
from exactile.partition import LostRank
from exactile.pipeline import Normalized
from exactile.records import describe_output
from exactile.segment import choose_channels

logger = logging.getLogger(__name__)

CACHE_BYTES = 2**26
"""For decoded chunks of the image: a rank reads each pixel of its part once."""


class Broken(ExactileError):  # noqa: N818 - says what happened
    """The rank cannot go on, in the middle of an exchange; the others will find it lost."""


@dataclass(frozen=True)
class Ready:
    """What all images have in common."""

    settings: PartitionSettings
    team: Team
    model: Model
    engine: EagerEngine
    outputs: dict[Path, Path]
    """The results by their images."""


@dataclass(frozen=True)
class Planned:
    """How one image is run."""

    channels: tuple[int, ...]
    arrangement: Arrangement
    image: OutputImage
    """What is written."""


def prepare(settings: PartitionSettings, team: Team) -> Ready:
    """Load the network on every rank, list the images, and make the output folder.

    Raises:
        RankError: if that fails on any rank.
    """

    def load() -> Ready:
        device = choose_device(settings.device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        outputs = plan_outputs(settings)
        model = load_network(settings)
        check_asked(model.dimensions, team.size, settings.mesh, settings.axes)
        engine = make_engine(model.network, device, settings.precision)
        make_folder(settings.out_dir)
        return Ready(settings, team, model, engine, outputs)

    return team.together(load)


def partition_collection(ready: Ready) -> bool:
    """Segment every image; return whether all are done.

    Raises:
        LostRank: if another rank ends.
        Broken: if the network cannot be run on this rank.
    """
    failed = []
    for path, output in ready.outputs.items():
        try:
            partition_image(ready, path, output)
        except (LostRank, Broken):
            raise
        except ExactileError as error:
            # All ranks have raised it; one says so.
            if ready.team.rank == 0:
                logger.error("failed: %s", error)
            failed.append(path.name)
    total = len(ready.outputs)
    if ready.team.rank == 0:
        logger.info("%d of %d images done", total - len(failed), total)
    return not failed


def partition_image(ready: Ready, path: Path, output: Path) -> None:
    """Segment all planes or volumes of one image, and write the certificate.

    Raises:
        RankError, NotPartitioned: on all ranks, if anything stands in the way; nothing is left
            under the final name then.
        LostRank, Broken: see `partition_collection`.
    """
    begun = time.monotonic()
    team = ready.team
    with ExitStack() as opened:

        def plan() -> tuple[Source, Planned]:
            source = opened.enter_context(open_source(path, CACHE_BYTES))
            return source, plan_image(ready, source, output.name)

        source, planned = team.together(plan)
        digest, identity, finished = _look(ready, path, output, planned)
        if finished:
            logger.info("%s: already done", path.name)
            return
        logger.info("%s: %s", path.name, planned.arrangement)

        def begin() -> StoringSink[Any] | None:
            made = open_sink(output, planned.image) if team.rank == 0 else None
            return None if made is None else opened.enter_context(made)

        sink = team.together(begin)
        tiles = TileFile(output, planned.image, team.rank)
        steps: dict[str, tuple[StepRecord, ...]] = {}
        exchanged = Exchanged()
        for whole in source.wholes(ready.model.dimensions):
            fitted = fit_together(team, ready.model.before, source, whole, planned.channels)
            steps[str(whole)] = tuple(StepRecord.of(step) for step in fitted)
            image = Normalized(source, whole, planned.channels, fitted)
            parts, received = _run(ready, planned.arrangement, image)
            exchanged += received
            write_parts(team, parts, _planes(whole, planned.image), tiles)
        # JSON makes lists of tuples.
        told: list[Any] = team.share([tiles.entries, astuple(exchanged)])
        everything = sum((Exchanged(*numbers) for _, numbers in told), Exchanged())

        def put_together() -> None:
            if sink is None:
                return
            adopt_tiles(sink, output, [entries for entries, _ in told])
            file = sink.assemble()
            result = Result(
                identity,
                digest,
                planned.channels,
                planned.arrangement,
                steps,
                everything,
                time.monotonic() - begun,
            )
            content = certificate(
                ready.settings, ready.model, ready.engine, source, output.name, file, result
            )
            with written_beside(output, content):
                sink.close()

        team.together(put_together)
    logger.info(
        "%s: %.1f Mpx in %.1f s, %.1f MB exchanged",
        path.name,
        prod((source.size_t, source.size_z, *source.shape)) / 1e6,
        time.monotonic() - begun,
        everything.received / 1e6,
    )


def plan_image(ready: Ready, source: Source, name: str) -> Planned:
    """Return how the image of `source` is run, for the result `name`; no pixel is read.

    Raises:
        ImageError: if it is too small for the network.
        ModelError: if the network does not run on an image of this size.
        PlanError: if it cannot be split as asked for.
    """
    settings, model = ready.settings, ready.model
    channels = choose_channels(source, settings.channel, model.channels)
    shape = source.shape_of(model.dimensions)
    kept = model.locality.output_shape(shape)
    if 0 in kept:
        raise ImageError(
            f"{source.path}: is too small for {model.name}, of whose output nothing lies in "
            f"an image of {' x '.join(map(str, shape))} px"
        )
    extent = model.locality.pad(shape)
    try:
        check_extent(model, extent)
        arrangement = arrange(
            *(extent, model.locality.alignment, ready.team.size, settings.mesh, settings.axes)
        )
    except (ModelError, PlanError) as error:
        raise type(error)(f"{source.path}: {error}") from error
    image = describe_output(source, channels, kept, model, settings, name)
    return Planned(channels, arrangement, image)


def _look(
    ready: Ready, path: Path, output: Path, planned: Planned
) -> tuple[FileDigest, dict[str, str], bool]:
    """Return the image's digest, what the result depends on, and whether it is there already.

    One rank reads the image for that.
    """

    def look() -> Any:
        if ready.team.rank != 0:
            return None
        digest = digest_of(path)
        identity = identify(
            ready.settings,
            ready.model,
            ready.engine,
            planned.arrangement,
            path.name,
            digest.sha256,
            output.name,
        )
        return astuple(digest), identity, is_finished(output, identity)

    told: list[Any] = ready.team.share(ready.team.together(look))
    digest, identity, finished = told[0]
    return FileDigest(*digest), identity, finished


def _planes(whole: Whole, image: OutputImage) -> tuple[Plane, ...]:
    """Return the planes of the result for `whole`, in their order."""
    if isinstance(whole, Plane):
        return (whole,)
    return tuple(Plane(whole.t, z) for z in range(image.size_z))


def _run(ready: Ready, arrangement: Arrangement, image: Normalized) -> tuple[Parts, Exchanged]:
    team = ready.team
    try:
        return run_whole(
            *(team, ready.engine, ready.model, arrangement, image), ready.settings.output_type
        )
    except (RuntimeError, MemoryError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        broken = Broken(
            f"rank {team.rank}: {image.source.path}: the network failed on its part of "
            f"{image.whole}: {said}; if memory is short, use more ranks"
        )
        team.give_up(broken)
        raise broken from error
