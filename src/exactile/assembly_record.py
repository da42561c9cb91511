"""The certificate of an image that was put together: what holds for all of its parts.

Where parts differ, the least that any of them may claim is what the whole claims. What each part
was is listed, so that nothing gets lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import reduce
from typing import Any

from exactile.bit_stability import weaker
from exactile.certificate import claim
from exactile.images.digest import FileDigest
from exactile.parts import StoredPart
from exactile.real_pixels import together
from exactile.verification import Verification


def certificate_of_whole(
    parts: Sequence[StoredPart], file: FileDigest, seconds: float
) -> dict[str, Any]:
    """Return the certificate of the image that `parts` make up, and that `file` holds.

    It has the form of one of a run without shards, and under `parts` what each part was. `seconds`
    are those of putting it together; those of the parts are added up by stage.
    """
    certificates = [stored.certificate() for stored in parts]
    runs = [each.run for each in certificates]
    contents = [each.content for each in certificates]
    first = dict(contents[0])
    stability = reduce(weaker, (run.bit_stability for run in runs))
    verification = _all_verified(run.verification for run in runs)
    real_pixels = together(run.real_pixels for run in runs if run.real_pixels is not None)
    steps = [each["input"]["normalization"] for each in contents]
    spent: Counter[str] = Counter()
    for each in contents:
        spent.update(each["seconds"])
    return first | {
        "output": parts[0].output,
        "file": asdict(file),
        "identity": parts[0].identity_of_whole,
        "input": first["input"] | {"normalization": _joined(steps)},
        "settings": first["settings"] | {"shard": None},
        "plan": first["plan"] | _plan([each["plan"] for each in contents]),
        "bit_stability": asdict(stability),
        "verification": verification and asdict(verification),
        "real_pixels": real_pixels and asdict(real_pixels),
        "claim": claim(first["settings"]["precision"], stability, verification, real_pixels),
        "seconds": {stage: round(value, 3) for stage, value in spent.items()}
        | {"assembly": round(seconds, 3)},
        "part": None,
        "parts": [_described(each) for each in contents],
    }


def _plan(plans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the plans of the parts add up to; a zone at a seam was run for both sides."""
    before: list[Any] = []
    for window in (window for plan in plans for window in plan["windows_before"]):
        if window not in before:
            before.append(window)
    return {
        "windows_before": before,
        "zones_run": sum(plan["zones_run"] for plan in plans),
        "zones_resumed": sum(plan["zones_resumed"] for plan in plans),
    }


def _all_verified(records: Iterable[Verification | None]) -> Verification | None:
    found = [record for record in records if record is not None]
    if not found:
        return None
    return Verification(
        zones=sum(each.zones for each in found),
        compared=sum(each.compared for each in found),
        different=sum(each.different for each in found),
        largest_difference=max(each.largest_difference for each in found),
    )


def _joined(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for record in records for name, value in record.items()}


def _described(content: Mapping[str, Any]) -> dict[str, Any]:
    part = content["part"]
    return {
        "name": content["output"],
        "sha256": content["file"]["sha256"],
        **{name: part[name] for name in ("t", "z", "rows")},
        "shard": content["settings"]["shard"],
        "device": content["device"],
        "engine": content["engine"],
        "window": content["plan"]["window"],
        "claim": content["claim"],
    }
