"""The last words of a run."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from exactile.assembly import Assembled
from exactile.demo import Demonstration
from exactile.segment import ImageResult
from exactile.statistics.measuring import Measured

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
            failed.append(result.name)
            continue
        if result.finished_before:
            logger.info("%s: already done", result.name)
        else:
            logger.info("%s: %s", result.name, _speed(result.pixels, result.seconds))
        done, pixels, seconds = done + 1, pixels + result.pixels, seconds + result.seconds
    logger.info("%d of %d images done: %s", done, done + len(failed), _speed(pixels, seconds))
    _name_failed(failed, done + len(failed))
    return not failed


def conclude_measuring(results: Iterable[Measured]) -> bool:
    """Log how each image's measuring goes as it ends; return whether all were measured."""
    total, failed = 0, []
    for result in results:
        total += 1
        if result.error:
            logger.error("failed: %s", result.error)
            failed.append(result.path.name)
    logger.info("%d of %d images measured", total - len(failed), total)
    _name_failed(failed, total)
    return not failed


def _name_failed(failed: list[str], total: int) -> None:
    if failed:
        more = f" and {len(failed) - NAMES_SHOWN} more" if len(failed) > NAMES_SHOWN else ""
        names = ", ".join(failed[:NAMES_SHOWN])
        # A name that is not UTF-8 is shown as it can be.
        shown = names.encode(errors="backslashreplace").decode()
        logger.error("%d of %d images failed: %s%s", len(failed), total, shown, more)


def conclude_assembly(images: Iterable[Assembled]) -> bool:
    """Log how each image was put together, then the whole; return whether all were."""
    done = failed = 0
    for image in images:
        done, failed = done + (not image.error), failed + bool(image.error)
        if image.error:
            logger.error("failed: %s", image.error)
        elif image.finished_before:
            logger.info("%s: already done", image.name)
        else:
            logger.info(
                "%s: put together from %d parts, %.1f MB in %.1f s",
                image.name,
                image.parts,
                image.nbytes / 1e6,
                image.seconds,
            )
    logger.info("%d of %d images put together", done, done + failed)
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
