"""One image: engine and plan, then statistics and the pipeline for each plane, or each volume.

The image's journal says what an earlier run has stored; only the zones that are missing are made,
in the windows that the earlier run took. Where memory runs out, the rest is done in smaller ones.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from exactile.bit_stability import weaker
from exactile.certificate import Certificate, PartRecord, StepRecord
from exactile.errors import ImageError
from exactile.exchange import exchange_whole
from exactile.forward import ForwardPass
from exactile.geometry import Box
from exactile.images import OutputImage, Plane, Sink, Source, Whole, open_sink
from exactile.images.chunk_rows_sink import ChunkRowsSink
from exactile.images.digest import FileDigest
from exactile.images.journal import Journal
from exactile.images.part_sink import PartSink
from exactile.images.storing_sink import StoringSink
from exactile.images.zarr_layout import is_zarr_name
from exactile.job import Job
from exactile.memory.size import format_size
from exactile.noted import noted_plan, noted_steps
from exactile.pipeline import Normalized, compare_real_pixels, segment_whole
from exactile.preparation import exchange_budget, prepare, shrunk
from exactile.processing import Pointwise
from exactile.real_pixels import RealPixelCheck, lowered
from exactile.records import Account, certify, describe_output, input_record
from exactile.report.preview import Preview, remove_preview
from exactile.report.progress import Watcher
from exactile.shard_files import chunk_rows
from exactile.sharding import Part
from exactile.shortage import cut
from exactile.traversal import in_bands, useful_cache_bytes
from exactile.verification import VerificationError, Verifier, choose_zones

logger = logging.getLogger(__name__)

Fit = Callable[[Whole], tuple[Pointwise, ...]]
"""Gives the steps of the normalisation with the numbers of a plane or a volume."""


class Segmentation:
    """One image on its way through the network into a file."""

    def __init__(
        self,
        job: Job,
        source: Source,
        channels: tuple[int, ...],
        journal: Journal,
        fit: Fit,
        part: Part | None = None,
    ) -> None:
        """Plan the image, or the `part` of it, as an earlier run did if the journal says so.

        `fit` gives the numbers of the normalisation for each plane, or each volume.

        Raises:
            ImageError: if the image has nothing of the part.
            PlanError, ModelError, NetworkError: see `prepare`.
        """
        self.job = job
        self.source = source
        self.channels = channels
        self.journal = journal
        self.fit = fit
        self.seconds: dict[str, float] = {}
        noted, before = noted_plan(journal, job, source.shape_of(job.model.dimensions))
        self.part = part
        self.wholes: tuple[Whole, ...] = (
            source.wholes(job.model.dimensions) if part is None else (part.plane,)
        )
        self.kept = _kept(job, source, part)
        with self._timed("check"):
            prepared = prepare(
                job, source, len(channels), noted, None if part is None else self.kept
            )
        source.limit_cache(useful_cache_bytes(prepared.tiling, source, len(channels)))
        self.account = Account(prepared, prepared.stability, ())
        if before is not None:
            earlier = (*before.windows, tuple(noted["window"]))
            windows = tuple(each for each in earlier if each != prepared.tiling.window)
            stability = weaker(prepared.stability, before.stability)
            self.account = Account(prepared, stability, windows)
        self._note_plan()

    def run(
        self,
        output: Path,
        watcher: Watcher,
        digest: FileDigest,
        whole_name: str,
        preview: Preview | None,
    ) -> Certificate:
        """Write `output` and its certificate; `digest` is that of the image.

        `whole_name` is the name of the output that it is, or that it is a part of; `preview` picks
        its samples on the way.

        Raises:
            ExactileError: if anything stands in the way; nothing is under the final name then, and
                what is stored stays for a later run, unless it could not be trusted.
        """
        job, shape = self.job, self.account.at_hand.tiling.output_shape
        whole = describe_output(
            self.source, self.channels, shape, job.model, job.settings, whole_name
        )
        part = self.part
        with self._open_sink(output, whole, whole_name) as sink:
            target = sink if part is None else PartSink(sink, whole, part.plane, self.kept)
            if preview is not None:
                preview.follow(target)
            try:
                steps = self._fill(target, watcher)
                with self._timed("check"):
                    at_hand = self.account.at_hand
                    run = ForwardPass(at_hand.engine, job.settings.output_type, job.model.finishing)
                    real = compare_real_pixels(self.real, self.source.path, run, at_hand.tiling)
                    self.account.stability = lowered(self.account.stability, real)
            except (ImageError, VerificationError) as error:
                # The next run cannot go on from here: it needs another image, or other windows.
                if not _from_the_disk(error):
                    sink.discard()
                raise
            file = sink.assemble()
            certificate = certify(
                self.job,
                output.name,
                file,
                self.journal.identity,
                input_record(self.source, digest, self.channels, steps),
                self.account,
                self.verifier.result(),
                real,
                self.seconds,
                None if part is None else PartRecord.of(part, whole_name, whole),
            )
            with certificate.beside(output.parent):
                remove_preview(output)
                sink.close()
        return certificate

    def _open_sink(self, output: Path, whole: OutputImage, whole_name: str) -> StoringSink[Any]:
        part = self.part
        if part is None:
            return open_sink(output, whole, journal=self.journal)
        image = part.image(whole)
        if not is_zarr_name(whole_name):
            return open_sink(output, image, journal=self.journal)
        rows = chunk_rows(output.parent, whole_name, whole, part.plane, part.rows)
        return ChunkRowsSink(output, image, rows, self.journal)

    def _fill(self, sink: Sink, watcher: Watcher) -> dict[str, tuple[StepRecord, ...]]:
        """Make every zone that is not stored, and return the steps of each plane or volume."""
        tiling = self.account.at_hand.tiling
        zones = in_bands(
            self._needed([tile.zone for tile in tiling.tiles()]),
            tiling,
            self.source,
            len(self.channels),
        )
        left = {
            whole: [zone for zone in zones if not sink.has(whole, zone)] for whole in self.wholes
        }
        total = len(zones) * len(left)
        count = sum(map(len, left.values()))
        self.account.zones_resumed = total - count
        if count < total:
            logger.info(
                "%s: goes on from %d of %d zones that an earlier run stored",
                self.source.path.name,
                total - count,
                total,
            )
        watcher.begin(
            self.source.path.name, sum((z & self.kept).size for each in left.values() for z in each)
        )
        chosen = choose_zones(count, self.job.settings.verify, self.source.path.name)
        self.verifier = Verifier(tiling, chosen, self.account.stability.equal)
        self.real = RealPixelCheck(self.account.at_hand.engine)
        return {
            name_of(whole): self._fill_whole(sink, whole, zones, watcher)
            for whole, zones in left.items()
        }

    def _needed(self, zones: list[Box]) -> list[Box]:
        """Return those of `zones` that have positions in what is kept."""
        return [zone for zone in zones if (zone & self.kept).size]

    def _fill_whole(
        self, sink: Sink, whole: Whole, zones: list[Box], watcher: Watcher
    ) -> tuple[StepRecord, ...]:
        name = str(whole)
        if not zones and (noted := noted_steps(self.journal, name)) is not None:
            return noted
        with self._timed("statistics"):
            fitted = self.fit(whole)
        steps = tuple(StepRecord.of(step) for step in fitted)
        self.journal.note({name: [asdict(step) for step in steps]})
        with self._timed("segmentation"):
            self._make(sink, whole, fitted, zones, watcher)
        return steps

    def _make(
        self,
        sink: Sink,
        whole: Whole,
        fitted: tuple[Pointwise, ...],
        zones: list[Box],
        watcher: Watcher,
    ) -> None:
        """Make `zones`; where memory runs out, the rest of them in smaller windows."""

        def advance(pixels: int) -> None:
            self.account.zones_run += 1
            watcher.advance(pixels)

        image = Normalized(self.source, whole, self.channels, fitted)
        job, account = self.job, self.account
        parts = account.at_hand.parts
        if parts is not None and zones:
            traffic = exchange_whole(
                image,
                parts,
                self.kept,
                account.at_hand.engine,
                job.settings.output_type,
                job.model.finishing,
                sink,
                watcher.advance,
                exchange_budget(job, self.source),
                self.journal.folder,
            )
            account.zones_run += len(zones)
            logger.debug("%s: moved %s", self.source.path.name, format_size(traffic.moved))
            return
        # The windows may have shrunk in an earlier plane or volume, after the zones were listed.
        zones = self._needed(cut(zones, account.at_hand.tiling))
        while zones:
            at_hand = account.at_hand
            run = ForwardPass(at_hand.engine, job.settings.output_type, job.model.finishing)
            shortage = segment_whole(
                *(image, at_hand.tiling, zones, self.kept, run, sink, advance),
                *(self.verifier, self.real),
            )
            if shortage is None:
                return
            self._shrink(shortage.reason)
            zones = cut(shortage.zones, account.at_hand.tiling)

    def _shrink(self, reason: str) -> None:
        """Go on with smaller windows.

        Raises:
            NetworkError: if there are none.
        """
        account = self.account
        account.windows_before += (account.at_hand.tiling.window,)
        with self._timed("check"):
            account.at_hand = shrunk(self.job, account.at_hand, self.source.path, reason)
        account.stability = weaker(account.stability, account.at_hand.stability)
        self.verifier.tiling = account.at_hand.tiling
        self.verifier.exact = account.stability.equal
        self._note_plan()

    def _note_plan(self) -> None:
        account = self.account
        self.journal.note(
            {
                "plan": account.at_hand.note(),
                "before": {
                    "windows": account.windows_before,
                    "stability": asdict(account.stability),
                },
            }
        )

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun


def _kept(job: Job, source: Source, part: Part | None) -> Box:
    """Return the positions of the output that are made: all, or those of `part`.

    Raises:
        ImageError: if the image has nothing of the part.
    """
    shape = job.model.locality.output_shape(source.shape_of(job.model.dimensions))
    if part is None:
        return Box.of_shape(shape)
    kept = part.region(shape)
    if part.plane not in source.planes or (0 not in shape and not kept.size):
        raise ImageError(
            f"{source.path}: has no {part}: the image is another one than when the work was split; "
            "do not change images while they are segmented"
        )
    return kept


def name_of(whole: Whole) -> str:
    """Return what a certificate calls a plane or a volume."""
    return f"t={whole.t} z={whole.z}" if isinstance(whole, Plane) else f"t={whole.t}"


def _from_the_disk(error: BaseException | None) -> bool:
    """Return whether a disk or network that did not answer is behind `error`: it may do later."""
    while error is not None:
        if isinstance(error, OSError):
            return True
        error = error.__cause__
    return False
