"""What determines the bits of a result: facts by their names, as a run's journal keeps them.

Two runs with equal facts write equal bytes, so one may go on where the other stopped, and what one
has finished need not be done again. Where the facts differ, their names say to people what does.
Not among them is what changes no bit: folders, that of --statistics too, the device's memory,
--memory, --verify, --resume.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from exactile.certificate import RECORDED_VERSIONS
from exactile.devices import in_threads
from exactile.job import Job
from exactile.normalization import describe
from exactile.settings import SegmentSettings
from exactile.sharding import Part

THE_PART = "the part"
"""The fact in which the parts of an image differ, and which a whole image does not have."""

THREADS = "the number of threads (NUM_THREADS)"
"""The fact that may differ where the bits were seen not to depend on it (`exactile.threads`)."""

OF_THE_IMAGE = ("the image's name", "the image", THE_PART)
"""The facts in which the images of one run may differ."""

OF_THE_CONTAINER = ("--zarrVersion",)
"""The facts that only images of one kind of file have; see `facts_of_container`."""


def identify(
    job: Job, name: str, sha256: str, output: str, part: Part | None = None
) -> dict[str, Any]:
    """Return the facts for an image file of this name and digest; all values are plain texts.

    Of the name `output` of the result only that counts which says what kind of file it is. Of a
    `part` they are the image's, and which one it is. How many shards there are is not among them:
    the same rows have the same bits in every split.
    """
    settings, model = job.settings, job.model
    channels = settings.channel
    facts = {
        "the image's name": name,
        "the image": sha256,
        "the model": model.file.sha256,
        "the output": model.file.output or "the only one",
        "the network": _digest(asdict(model.locality) | model.analysis.operators),
        "the normalisation": describe(model.before),
        "the finishing": model.finishing.describe(),
        "the classes": ", ".join(model.classes),
        "--outputType": settings.output_type,
        "--precision": settings.precision,
        "--strategy": settings.strategy,
        "--tileSize": str(settings.tile_size),
        "--pyramid": str(settings.pyramid).lower(),
        "--channel": "all" if channels is None else ",".join(map(str, channels)),
        "the engine": job.describe_engines().replace(in_threads(), ""),
        "the CPU": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
    }
    if job.engines[0].device.type == "cpu":
        facts[THREADS] = str(torch.get_num_threads())
    facts |= facts_of_container(settings, output)
    facts |= {f"the version of {each}": version(each) for each in RECORDED_VERSIONS}
    return facts if part is None else facts | {THE_PART: str(part)}


def facts_of_container(settings: SegmentSettings, output: str) -> dict[str, str]:
    """Return the facts that depend on the kind of file that the result `output` is."""
    version = settings.zarr_version_of(output)
    return {} if version is None else {"--zarrVersion": version}


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
