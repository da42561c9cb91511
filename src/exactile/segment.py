"""The main job: a collection in, a collection out, and a certificate for each image.

For the run: the model, its locality traced from the operators and proven on the weights. For every
image: is it finished, or was it begun? Then what is left of it (`exactile.segmentation`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from exactile.certificate import Certificate
from exactile.errors import ExactileError, ImageError
from exactile.finished import is_finished
from exactile.identity import identify
from exactile.images import Source, open_source
from exactile.images.digest import FileDigest
from exactile.images.journal import Journal, remove_leftovers
from exactile.job import Job, make_job
from exactile.outputs import make_folder, plan_outputs
from exactile.report.preview import Preview, preview_path
from exactile.report.progress import Watcher
from exactile.segmentation import Segmentation
from exactile.settings import SegmentSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageResult:
    """How one image went."""

    path: Path
    """The input."""
    output: Path
    """The result, which is there if nothing went wrong."""
    pixels: int
    """Pixels segmented by this run, over all planes; what an earlier run stored does not count."""
    seconds: float
    certificate: Certificate | None
    """None where the image failed, or was finished before."""
    error: str
    """Empty, or why the image failed."""

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
    job = make_job(settings)
    make_folder(settings.out_dir)
    for path, output in outputs.items():
        begun = time.monotonic()
        try:
            certificate = segment_image(job, path, output, watcher)
        except (ExactileError, MemoryError) as error:
            text = str(error)
            if isinstance(error, MemoryError):
                text = f"{path}: memory ran out ({error}); use a smaller --tileSize"
            text = "; ".join([text, *getattr(error, "__notes__", ())])
            yield ImageResult(path, output, 0, time.monotonic() - begun, None, text)
            continue
        pixels = 0 if certificate is None else _pixels_made(certificate)
        yield ImageResult(path, output, pixels, time.monotonic() - begun, certificate, "")


def _pixels_made(certificate: Certificate) -> int:
    sizes, plan = certificate.input.dimensions, certificate.plan
    resumed = plan.zones_resumed / (plan.zones_run + plan.zones_resumed)
    return round(prod(sizes[axis] for axis in "TZYX") * (1 - resumed))


def segment_image(job: Job, path: Path, output: Path, watcher: Watcher) -> Certificate | None:
    """Segment all planes of one image into `output`, and write its certificate.

    Returns None where an earlier run has finished the image; nothing is touched then.

    Raises:
        ExactileError: if anything stands in the way; nothing is left under the final name then.
    """
    with open_source(path, job.cache_bytes, torch.get_num_threads()) as source:
        channels = choose_channels(source, job.settings.channel, job.model.channels)
        digest = digest_of(path)
        identity = identify(job, path.name, digest.sha256)
        resume = job.settings.resume
        if resume != "false" and is_finished(output, identity):
            remove_leftovers(output)
            if not preview_path(output).exists():
                _save(_preview(job, source, channels), output)
            return None
        preview = _preview(job, source, channels)
        with Journal(output, identity, resume) as journal:
            segmentation = Segmentation(job, source, channels, journal)
            certificate = segmentation.run(output, watcher, digest, preview)
        _save(preview, output)
        return certificate


def _preview(job: Job, source: Source, channels: tuple[int, ...]) -> Preview:
    return Preview(source, channels, job.model.locality, job.settings.output_type)


def _save(preview: Preview, output: Path) -> None:
    """Write the preview of an image that is done; if that fails, the image is done all the same."""
    try:
        preview.save(output)
    except (OSError, ExactileError, MemoryError) as error:
        logger.warning("%s: is complete, but its preview cannot be made: %s", output.name, error)


def digest_of(path: Path) -> FileDigest:
    """Return size and digest of an image file.

    Raises:
        ImageError: if it cannot be read.
    """
    try:
        return FileDigest.of(path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error


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
        raise ImageError(
            f"{source.path}: {len(chosen)} channels would go to a model that takes {needed}; "
            f"choose with --channel, such as --channel {','.join(map(str, range(needed)))}"
        )
    return chosen
