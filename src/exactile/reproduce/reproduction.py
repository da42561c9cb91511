"""All experiments of a form, one after another, and the files that they leave."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from exactile.devices import name_device
from exactile.errors import OutputError, SettingsError
from exactile.geometry import Box
from exactile.report.progress import Watcher
from exactile.reproduce.experiments import Form
from exactile.reproduce.findings import in_short, of_table
from exactile.reproduce.plots import draw_halos, draw_offsets
from exactile.reproduce.report import report
from exactile.reproduce.run import (
    HaloResult,
    OffsetResult,
    ShortfallResult,
    run_offsets,
    run_shortfall,
    run_table,
)
from exactile.reproduce.tables import halo_csv, offset_csv, shortfall_csv

logger = logging.getLogger(__name__)

REPORT = "report.md"
SHORTFALLS = "formula_too_small.csv"

GIGABYTE = 1e9
FLOAT32 = 4


@dataclass(frozen=True)
class Reproduction:
    """What was measured, and where the report is."""

    report: Path
    tables: tuple[HaloResult, ...]
    offsets: OffsetResult
    shortfalls: tuple[ShortfallResult, ...]

    def describe(self) -> str:
        """Return what the tables end in, for people."""
        lines = [in_short(result) for result in self.tables]
        return "\n".join([*lines, f"wrote {self.report}"])


def reproduce(out_dir: Path, form: Form, device: torch.device, watcher: Watcher) -> Reproduction:
    """Run the experiments of `form` on `device`; write report.md, CSV files and PNGs to `out_dir`.

    The files of a table are written as soon as it is measured.

    Raises:
        SettingsError: if a whole-image pass does not fit into this machine's memory.
        OutputError: if `out_dir` cannot be written.
    """
    _ensure_it_fits(form, device)
    _ensure_writable(out_dir)
    tables = []
    for table in form.tables:
        result = run_table(table, form.images, device, watcher)
        with _writing(out_dir):
            (out_dir / f"{table.name}.csv").write_text(halo_csv(result), "utf-8")
            draw_halos(result, out_dir / f"{table.name}.png")
        logger.info("%s: %s", table.title, " ".join(of_table(result)))
        tables.append(result)
    offsets = run_offsets(form.offsets, device, watcher)
    shortfalls = tuple(run_shortfall(each, device, watcher) for each in form.shortfalls)
    text = report(form, name_device(device), tables, offsets, shortfalls)
    with _writing(out_dir):
        (out_dir / f"{form.offsets.name}.csv").write_text(offset_csv(offsets), "utf-8")
        draw_offsets(offsets, out_dir / f"{form.offsets.name}.png")
        (out_dir / SHORTFALLS).write_text(shortfall_csv(shortfalls), "utf-8")
        (out_dir / REPORT).write_text(text, "utf-8")
    return Reproduction(out_dir / REPORT, tuple(tables), offsets, shortfalls)


def _ensure_it_fits(form: Form, device: torch.device) -> None:
    """Say how much memory the whole-image passes take, and refuse what cannot be held."""
    needs = {
        table.title: Box.of_shape(table.shape).size * table.network.held * FLOAT32
        for table in form.tables
    }
    title, most = max(needs.items(), key=lambda item: item[1])
    logger.info("the largest whole-image pass (%s) takes about %.1f GB", title, most / GIGABYTE)
    if device.type == "cuda":
        there = torch.cuda.get_device_properties(device).total_memory
    else:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if most > there:
        raise SettingsError(
            f"{title}: one pass over a whole image takes about {most / GIGABYTE:.0f} GB, and there "
            f"are {there / GIGABYTE:.0f}; use a smaller --width or --rows, or --quick"
        )


def _ensure_writable(folder: Path) -> None:
    """Make `folder` and try it, before hours of work."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn what the file system says into a message."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"--outDir {folder}: cannot be written ({error.strerror}); choose another folder"
        ) from error
