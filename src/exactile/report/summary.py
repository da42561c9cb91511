"""The last words of a run."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from exactile.demo import Demonstration
from exactile.segment import ImageResult

logger = logging.getLogger(__name__)

NAMES_SHOWN = 10
"""How many failed images the last line names; each has had a line of its own."""


def conclude(results: Iterable[ImageResult]) -> bool:
    """Log how each image goes as it ends, then the whole; return whether all were done."""
    done, pixels, seconds = 0, 0, 0.0
    failed: list[str] = []
    for result in results:
        if result.error:
            logger.error("failed: %s", result.error)
            failed.append(result.path.name)
            continue
        if result.finished_before:
            logger.info("%s: already done", result.path.name)
        else:
            speed = _speed(result.pixels, result.seconds)
            logger.info("%s: %s", result.path.name, speed)
        done, pixels, seconds = done + 1, pixels + result.pixels, seconds + result.seconds
    logger.info("%d of %d images done: %s", done, done + len(failed), _speed(pixels, seconds))
    if failed:
        more = f" and {len(failed) - NAMES_SHOWN} more" if len(failed) > NAMES_SHOWN else ""
        names = ", ".join(failed[:NAMES_SHOWN])
        logger.error("%d of %d images failed: %s%s", len(failed), done + len(failed), names, more)
    return not failed


def _speed(pixels: int, seconds: float) -> str:
    speed = pixels / 1e6 / seconds if seconds else 0.0
    return f"{pixels / 1e6:.1f} Mpx in {seconds:.1f} s, {speed:.2f} Mpx/s"


def describe_demonstration(made: Demonstration) -> str:
    """Return the demonstration's summary, a line for each fact."""
    certificate = made.result.certificate
    assert certificate is not None, "a demonstration that failed has raised its error"
    plan, sizes = certificate.plan, certificate.input.dimensions
    window = " x ".join(map(str, plan.window))
    rows = {
        "slide": f"{made.slide}, {sizes['Y']} x {sizes['X']} {certificate.input.dtype}",
        "plan": f"{plan.windows} windows of {window} px, "
        f"{plan.computed_ratio:.2f} computed pixels for each pixel",
        "time": f"{_speed(made.result.pixels, made.result.seconds)} on {certificate.device}",
        "Dice": f"{made.dice:.4f} against the synthetic truth",
        "exactness": certificate.bit_stability.sentence(),
        "labels": str(made.labels),
        "picture": str(made.overlay),
    }
    return "\n".join(f"{name:<10} {value}" for name, value in rows.items())
