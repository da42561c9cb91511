"""The report of a run: one HTML file, outDir/exactile/report.html, which needs nothing but itself.

Pictures are data URIs, drawings are SVG in the page, there are no scripts; its content security
policy lets a browser load nothing else. It is written once, when all images are done or have
failed, and takes its name when it is complete. The same run gives the same bytes, but for timings.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from os.path import relpath
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from exactile import __version__
from exactile.certificate import certificate_path
from exactile.images.links import fresh, make_own_folder
from exactile.report.preview import REPORT_FOLDER, style_of
from exactile.report.preview_drawing import CLASS_COLOURS
from exactile.report.run_facts import EXACT, MOST_KINDS, WHOLE, Outcome, RunFacts, State, gather
from exactile.report.thumbnails import MOST_EMBEDDED, Thumbnail, side_for, spread, thumbnail
from exactile.segment import ImageResult
from exactile.settings import SegmentSettings

logger = logging.getLogger(__name__)

NAME = "report.html"

BACKDROP_SIDE = 480
"""The longer side of the picture that lies under a drawn plan."""


class RunPage:
    """Notes how each image goes, and writes the report at the end."""

    def __init__(self, settings: SegmentSettings) -> None:
        self.settings = settings
        self.path = settings.out_dir / REPORT_FOLDER / NAME
        self.outcomes: list[Outcome] = []

    def follow(self, results: Iterable[ImageResult]) -> Iterator[ImageResult]:
        """Yield `results` as they come, and note how each went."""
        for result in results:
            state: State = "done before" if result.finished_before else "done"
            self.outcomes.append(
                Outcome(
                    result.path.name,
                    result.output,
                    "failed" if result.error else state,
                    result.seconds,
                    result.error,
                )
            )
            yield result

    def write(self) -> bool:
        """Write the report, and return whether it is there; if not, the log says why.

        A run that has no result at all leaves none, unless there is one of an earlier run, which
        would tell of results as they are not.
        """
        if all(each.state == "failed" for each in self.outcomes) and not self.path.exists():
            return False
        partial = self.path.with_name(NAME + ".partial")
        try:
            make_own_folder(self.path.parent, self.settings.out_dir)
            # Names of files need not be UTF-8.
            with fresh(partial).open("w", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(render(gather(self.outcomes), self.settings))
            partial.replace(self.path)
        except OSError as error:
            logger.warning("%s: the report cannot be written (%s)", self.path, error.strerror)
            return False
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        logger.info("report: %s", self.path)
        return True


def render(facts: RunFacts, settings: SegmentSettings) -> Iterator[str]:
    """Yield the page, a part at a time."""
    environment = Environment(
        loader=PackageLoader("exactile", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"sides": _sides, "pixels": _pixels, "seconds": _seconds}
    folder = settings.out_dir / REPORT_FOLDER

    def link(path: Path) -> str:
        return quote(relpath(path, folder))

    shown = [i for n, i in enumerate(facts.done) if n in spread(len(facts.done))]
    side = side_for(len(shown))
    yield from environment.get_template("run_page.html").stream(
        facts=facts,
        settings=settings.model_dump(mode="json", by_alias=True),
        version=__version__,
        gallery=((image, thumbnail(image.preview, side)) for image in shown),
        shown=len(shown),
        most=MOST_EMBEDDED,
        legend=_legend(facts, settings),
        backdrops={key: _backdrop(plan.example.preview) for key, plan in facts.plans.items()},
        kinds=_kinds,
        bits=(EXACT, WHOLE),
        link=link,
        certificate_path=certificate_path,
        slowest=max((image.total for image in facts.done), default=0.0) or 1.0,
    )


def _backdrop(preview: Path) -> Thumbnail | None:
    return thumbnail(preview, BACKDROP_SIDE)


def _kinds(findings: Counter[str]) -> list[tuple[str, int]]:
    """Return the most frequent findings with their counts, and how many have another."""
    kept = findings.most_common(MOST_KINDS)
    rest = findings.total() - sum(count for _, count in kept)
    return kept + [("other findings, which the certificates have", rest)] * bool(rest)


def _legend(facts: RunFacts, settings: SegmentSettings) -> list[tuple[str, str]]:
    """Return colours and what they mean; none where heat is drawn."""
    classes = facts.classes
    if style_of(settings.output_type, len(classes)) == "heat":
        return []
    names = classes[1:] or classes
    return [
        (f"rgb({red} {green} {blue})", name)
        for (red, green, blue), name in zip(CLASS_COLOURS, names, strict=False)
    ]


def _sides(sides: Iterable[int]) -> str:
    """Return sides in array order (Y, X) as people say them: width and height."""
    return " \N{MULTIPLICATION SIGN} ".join(f"{side:,}" for side in reversed(list(sides)))


def _pixels(count: int) -> str:
    if count >= 1e9:
        return f"{count / 1e9:.2f} Gpx"
    return f"{count / 1e6:.1f} Mpx" if count >= 1e5 else f"{count:,} px"


def _seconds(value: Any) -> str:
    whole = round(float(value))
    if whole < 120:
        return f"{value:.1f} s"
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
