"""What is put down of a result of a partitioned run: what its bits depend on, and its certificate.

A certificate has what one of `exactile segment` has, but for the proof of the locality and the plan
of windows, which are not needed here; it has how the image was split instead.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch

from exactile.certificate import RECORDED_VERSIONS, StepRecord
from exactile.distributed.arrangement import NAMES, Arrangement
from exactile.distributed.forward import Exchanged
from exactile.distributed.settings import PartitionSettings
from exactile.engines.eager import EagerEngine
from exactile.images import Source
from exactile.images.digest import FileDigest
from exactile.images.zarr_layout import is_zarr_name
from exactile.models.model import Model
from exactile.normalization import describe
from exactile.records import input_record


@dataclass(frozen=True)
class Result:
    """What a run knows of an image when its result is put together."""

    identity: Mapping[str, str]
    """All that the bits depend on."""
    digest: FileDigest
    """Of the image."""
    channels: tuple[int, ...]
    """The channels that the network got."""
    arrangement: Arrangement
    steps: Mapping[str, tuple[StepRecord, ...]]
    """The steps of the normalisation with their numbers, by plane or volume."""
    exchanged: Exchanged
    """By all ranks together."""
    seconds: float


def identify(
    settings: PartitionSettings,
    model: Model,
    engine: EagerEngine,
    arrangement: Arrangement,
    name: str,
    sha256: str,
    output: str,
) -> dict[str, str]:
    """Return all that the bits of the result `output` depend on, by names that people understand.

    `name` and `sha256` are the image's.
    """
    channels = settings.channel
    facts = {
        "the command": "partition",
        "the image's name": name,
        "the image": sha256,
        "the model": model.file.sha256,
        "the output": model.file.output or "the only one",
        "F": " x ".join(map(str, model.locality.alignment)),
        "the normalisation": describe(model.before),
        "the finishing": model.finishing.describe(),
        "the classes": ", ".join(model.classes),
        "--outputType": settings.output_type,
        "--precision": settings.precision,
        "--channel": "all" if channels is None else ",".join(map(str, channels)),
        "the split": str(arrangement),
        "the engine": engine.describe(),
        "the CPU": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
    }
    if is_zarr_name(output):
        facts["--zarrVersion"] = settings.zarr_version
    return facts | {f"the version of {each}": version(each) for each in RECORDED_VERSIONS}


def certificate(
    settings: PartitionSettings,
    model: Model,
    engine: EagerEngine,
    source: Source,
    output: str,
    file: FileDigest,
    result: Result,
) -> dict[str, Any]:
    """Return the certificate of `output`, which holds `file`, as what JSON has."""
    arrangement = result.arrangement
    return {
        "output": output,
        "file": asdict(file),
        "identity": dict(result.identity),
        "input": asdict(input_record(source, result.digest, result.channels, result.steps)),
        "model": {
            "name": model.name,
            "version": model.file.version,
            "format": model.file.format,
            "sha256": model.file.sha256,
            "normalization": describe(model.before) + " (assumed)" * model.assumed,
            "output": model.file.output,
            "output_meaning": model.reading.sentence(),
            "finishing": model.finishing.describe(),
            "classes": model.classes,
            "local": model.refused is None,
        },
        "settings": settings.given(),
        "partition": {
            "axes": NAMES[-model.dimensions :],
            "mesh": arrangement.mesh,
            "alignment": model.locality.alignment,
            "extent": [cuts[-1] for cuts in arrangement.cuts],
            "cuts": arrangement.cuts,
            "received": result.exchanged.received,
            "messages": result.exchanged.messages,
        },
        "device": engine.describe(),
        "engine": engine.name,
        "claim": (
            f"Each {'plane' if model.dimensions == 2 else 'volume'} went through the network as "
            f"a whole, split over the ranks ({arrangement}): the output is that of one process, up "
            "to the order of sums within kernels and over ranks."
        ),
        "seconds": {"image": round(result.seconds, 3)},
        "part": None,
        "versions": {name: version(name) for name in RECORDED_VERSIONS}
        | {"machine": platform.machine(), "python": platform.python_version()},
    }
