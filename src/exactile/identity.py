"""What determines the bits of a result: facts by their names, as a run's journal keeps them.

Two runs with equal facts write equal bytes, so one may go on where the other stopped, and what one
has finished need not be done again. Where the facts differ, their names say to people what does.
Not among them is what changes no bit: folders, the device's memory, --memory, --verify, --resume.
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
from exactile.job import Job
from exactile.normalization import describe


def identify(job: Job, name: str, sha256: str) -> dict[str, Any]:
    """Return the facts for an image file of this name and digest; all values are plain texts."""
    settings, model = job.settings, job.model
    channels = settings.channel
    facts = {
        "the image's name": name,
        "the image": sha256,
        "the model": model.file.sha256,
        "the network": _digest(asdict(model.locality) | model.analysis.operators),
        "the normalisation": describe(model.before),
        "the finishing": describe(model.finishing.after),
        "the classes": ", ".join(model.classes),
        "--outputType": settings.output_type,
        "--precision": settings.precision,
        "--tileSize": str(settings.tile_size),
        "--pyramid": str(settings.pyramid).lower(),
        "--channel": "all" if channels is None else ",".join(map(str, channels)),
        "the engine": job.describe_engines(),
        "the CPU": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
    }
    return facts | {f"the version of {each}": version(each) for each in RECORDED_VERSIONS}


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
