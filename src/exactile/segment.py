"""The main job: a collection in, a collection out, and a certificate for each image.

An image is one of the collection, or a mosaic of its files (`exactile.inputs`).

For the run: the model, its locality traced from the operators and proven on the weights. For every
image: is it finished, or was it begun? Then what is left of it (`exactile.segmentation`). A shard
makes parts of images; each part is a file with a certificate of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from pathlib import Path

import torch

from exactile.certificate import Certificate
from exactile.cutting import check_cuttable, cut_back
from exactile.errors import ExactileError, ImageError
from exactile.failures import explain
from exactile.finished import is_finished
from exactile.identity import identify
from exactile.images import Source
from exactile.images.digest import FileDigest
from exactile.images.journal import Journal, remove_leftovers
from exactile.inputs import digest_input, open_input
from exactile.job import Job, make_job
from exactile.normalization import fit
from exactile.outputs import check_folder, make_folder, plan_outputs
from exactile.probe import probe
from exactile.report.preview import Preview, preview_path
from exactile.report.progress import Watcher
from exactile.segmentation import Fit, Segmentation
from exactile.settings import SegmentSettings
from exactile.sharding import Part
from exactile.statistics.recorded import RecordedStatistics
from exactile.threads import ThreadCheck
from exactile.workload import Work, whole_images, work_of_shard

logger = logging.getLogger(__name__)

NEARLY_ALL = 0.99
"""Share of an image that is worth a word where a class other than the background has it."""


@dataclass(frozen=True)
class ImageResult:
    """How one image went."""

    path: Path
    """The input; of a mosaic, its stitching vector."""
    output: Path
    """The result, which is there if nothing went wrong."""
    pixels: int
    """Pixels segmented by this run, over all planes; what an earlier run stored does not count."""
    seconds: float
    certificate: Certificate | None
    """None where the image failed, or was finished before."""
    error: str
    """Empty, or why the image failed."""
    name: str
    """Name of the image, or of the part of its result that was to be made."""

    @property
    def finished_before(self) -> bool:
        """Whether there was nothing to do."""
        return self.certificate is None and not self.error


def segment_collection(settings: SegmentSettings, watcher: Watcher) -> Iterator[ImageResult]:
    """Segment every image and yield how it went; one that fails does not stop the others.

    Raises:
        ExactileError: if no image could be done at all: settings, model, collection, output folder.
    """
    outputs = plan_outputs(settings)
    check_folder(settings.out_dir)
    tried = settings.out_dir.is_dir()
    if tried:
        probe(settings.out_dir)
    job = make_job(settings)
    if settings.mosaic_output == "files":
        check_cuttable(job.model)
    make_folder(settings.out_dir)
    if not tried:
        probe(settings.out_dir)
    if settings.shard is None:
        yield from _segment_each(job, whole_images(outputs), watcher)
        return
    shard = work_of_shard(settings, settings.shard, outputs, job.model.locality)
    failed = False
    for result in _segment_each(job, shard.works, watcher):
        failed = failed or bool(result.error)
        yield result
    if not failed:
        shard.record.write(settings.out_dir)


def _segment_each(job: Job, works: tuple[Work, ...], watcher: Watcher) -> Iterator[ImageResult]:
    settings = job.settings
    # Parts of an image come one after another.
    digest = lru_cache(maxsize=1)(partial(digest_input, settings))
    for work in works:
        begun = time.monotonic()
        path, name = work.path, work.path.name if work.part is None else work.part.name
        try:
            make_folder(work.output.parent)
            certificate = segment_image(job, work, watcher, digest)
            if settings.mosaic_output == "files":
                cut_back(job, path, work.output)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this image's failure
            seconds = time.monotonic() - begun
            yield ImageResult(path, work.target, 0, seconds, None, explain(error, path), name)
            continue
        pixels = 0 if certificate is None else _pixels_made(certificate, work.part)
        seconds = time.monotonic() - begun
        yield ImageResult(path, work.target, pixels, seconds, certificate, "", name)


def _pixels_made(certificate: Certificate, part: Part | None) -> int:
    sizes, plan = certificate.input.dimensions, certificate.plan
    resumed = plan.zones_resumed / (plan.zones_run + plan.zones_resumed)
    pixels = prod(sizes[axis] for axis in "TZYX")
    if part is not None:
        made = part.region(plan.output_shape).size
        pixels = pixels * made // (sizes["T"] * sizes["Z"] * prod(plan.output_shape))
    return round(pixels * (1 - resumed))


def segment_image(
    job: Job, work: Work, watcher: Watcher, digests: Callable[[Path], FileDigest]
) -> Certificate | None:
    """Segment all planes or volumes of one image, or a part of it, and write the certificate.

    `digests` gives the digest of the image. Returns None where an earlier run has finished it;
    nothing is touched then.

    Raises:
        ExactileError: if anything stands in the way; nothing is left under the final name then.
    """
    path, output, part = work.path, work.target, work.part
    threads = torch.get_num_threads()
    with open_input(job.settings, path, job.cache_bytes, threads) as source:
        channels = choose_channels(source, job.settings.channel, job.model.channels)
        digest = digests(path)
        identity = identify(job, path.name, digest.sha256, work.output.name, part)
        resume = job.settings.resume
        same_bits = ThreadCheck(job, identity)
        if resume != "false" and is_finished(output, identity, same_bits):
            remove_leftovers(output)
            if part is None and not preview_path(output).exists():
                _save(_preview(job, source, channels), output)
            return None
        chosen = choose_fit(job, source, channels, digest)
        # A part shows too little: whole images have previews.
        preview = None if part is not None else _preview(job, source, channels)
        with Journal(output, identity, resume, same_bits) as journal:
            segmentation = Segmentation(job, source, channels, journal, chosen, part)
            certificate = segmentation.run(output, watcher, digest, work.output.name, preview)
        if preview is not None and _save(preview, output):
            _warn_if_full(preview, output, job)
        return certificate


def _preview(job: Job, source: Source, channels: tuple[int, ...]) -> Preview:
    return Preview(source, channels, job.model.locality, job.settings.output_type)


def _save(preview: Preview, output: Path) -> bool:
    """Write the preview of an image that is done; if that fails, the image is done all the same."""
    try:
        preview.save(output)
    except (OSError, ExactileError, MemoryError) as error:
        logger.warning("%s: is complete, but its preview cannot be made: %s", output.name, error)
        return False
    return True


def _warn_if_full(preview: Preview, output: Path, job: Job) -> None:
    """Say where a class fills so much of an image that its meaning may be another one."""
    number, share = preview.fullest()
    if job.settings.output_type == "labels" and share >= (NEARLY_ALL if number else 1):
        logger.warning(
            "%s: class %d fills %.1f %% of it; if that is not so, the output may mean something "
            "else (%s), or the image be normalised otherwise: see --outputMeaning and "
            "--normalization",
            output.name,
            number,
            100 * share,
            job.model.reading.sentence(),
        )


def choose_fit(job: Job, source: Source, channels: tuple[int, ...], digest: FileDigest) -> Fit:
    """Return what fits the normalisation: statistics measured before, or passes over the image.

    Raises:
        StatisticsError: if those measured before are missing, or not this image's.
    """
    steps = job.model.before
    if job.statistics is not None:
        dimensions = job.model.dimensions
        return RecordedStatistics(job.statistics, steps, source, channels, digest, dimensions).fit
    return lambda whole: fit(steps, source, whole, channels)


def choose_channels(source: Source, wanted: tuple[int, ...] | None, needed: int) -> tuple[int, ...]:
    """Return the channels of `source` that the network gets: `wanted`, or all of them.

    Raises:
        ImageError: if the image has no such channel, or the network takes another number.
    """
    count = source.size_c
    chosen = tuple(range(count)) if wanted is None else wanted
    absent = [channel for channel in chosen if channel >= count]
    if absent:
        raise ImageError(
            f"{source.path}: has {count} channel{'s' * (count > 1)}, numbered from 0; --channel "
            f"{absent[0]} does not exist"
        )
    if len(chosen) != needed:
        advice = (
            f"choose with --channel, such as --channel {','.join(map(str, range(needed)))}"
            if count >= needed
            else f"the image has {count}: give images of {needed} channels"
        )
        raise ImageError(
            f"{source.path}: {len(chosen)} channel{'s' * (len(chosen) > 1)} would go to a model "
            f"that takes {needed}; {advice}"
        )
    return chosen
