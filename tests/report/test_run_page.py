"""The report of a run: one file that needs nothing else, with the facts of every image."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import noise_image, write_image
from program import arguments, call, files_in

from exactile.certified import read_certificate
from exactile.geometry import Halo, Locality
from exactile.report.plan_drawing import LEAST_GAP, draw_plan, plan_of
from exactile.report.run_facts import Outcome, gather
from exactile.report.thumbnails import MOST_EMBEDDED, spread
from exactile.tiling import plan

NAMES = ["<b>&amp; \"quoted\" 'x'.ome.tif", "Größe 細胞 β.ome.tif", "plain.ome.tif"]
DAMAGED = "a <script>alert(1).ome.tif"


class Page(HTMLParser):
    """What a page refers to, and the text that people see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img", "br", "image", "rect", "path"):
            self.open.append(tag)
        for name, value in attributes:
            if name == "href" and tag == "a":
                self.links.append(value or "")
            elif name in ("src", "href", "xlink:href", "data", "srcset", "action", "poster"):
                self.references.append(value or "")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("run")
    for seed, name in enumerate(NAMES):
        write_image(folder / "in" / name, noise_image((300 + seed, 280), seed))
    (folder / "in" / DAMAGED).write_text("no image")
    words = arguments(
        folder / "in", folder / "out", model=small_model, tileSize=100, verify=2, resume="false"
    )
    assert call(words).code == 1
    return folder


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return (run / "out" / "exactile" / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_page_needs_nothing_but_itself(page: Page, html: str) -> None:
    assert page.references
    assert all(reference.startswith("data:image/jpeg;base64,") for reference in page.references)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert not re.search(r"@import|url\(|https?:", html)
    assert "default-src 'none'" in html
    assert page.open == []


def test_links_lead_to_files_beside_the_page(page: Page, run: Path) -> None:
    assert len(page.links) == 2 * len(NAMES)
    for link in page.links:
        assert (run / "out" / "exactile" / unquote(link)).is_file(), link


def certificates(run: Path) -> Iterator[dict]:
    for name in NAMES:
        yield json.loads((run / "out" / "certificates" / f"{name}.json").read_text())


def test_every_image_and_its_facts_are_there_in_plain_text(page: Page, run: Path) -> None:
    for name in (*NAMES, DAMAGED):
        assert name in page.text
    for certificate in certificates(run):
        sizes = certificate["input"]["dimensions"]
        assert f"{sizes['X']} \N{MULTIPLICATION SIGN} {sizes['Y']}" in page.text
        assert certificate["file"]["sha256"][:12] in page.text
        assert certificate["claim"] in page.text
        assert certificate["model"]["sha256"] in page.text
    assert "3 of 4 images segmented" in page.text
    assert "1 failed" in page.text
    assert f"{DAMAGED} is not a TIFF image" in page.text
    assert "locality proven on the weights" in page.text.lower()
    assert "6 zones: 0 of" in page.text


def test_markup_in_names_stays_text(html: str) -> None:
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "&lt;b&gt;&amp;amp; &#34;quoted&#34;" in html


def test_a_later_run_that_finds_all_done_reports_the_same_images(
    run: Path, html: str, small_model: Path
) -> None:
    (run / "in" / DAMAGED).unlink()
    words = arguments(run / "in", run / "out", model=small_model, tileSize=100, verify=2)
    assert call(words).code == 0
    again = Page((run / "out" / "exactile" / "report.html").read_text(encoding="utf-8"))
    assert "All 3 images segmented" in again.text
    assert again.text.count("done before") == 3
    assert "failed" not in again.text
    assert Page(html).references == again.references


def test_a_run_without_any_result_leaves_no_report(tmp_path: Path, small_model: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / DAMAGED).write_text("no image")
    assert call(arguments(tmp_path / "in", tmp_path / "out", model=small_model)).code == 1
    assert files_in(tmp_path / "out") == []


def test_an_unreadable_certificate_is_said_and_does_not_stop_the_others(
    tmp_path: Path, small_model: Path
) -> None:
    write_image(tmp_path / "in" / "a.ome.tif", noise_image((60, 70)))
    assert call(arguments(tmp_path / "in", tmp_path / "out", model=small_model)).code == 0
    facts = gather(
        Outcome(name, tmp_path / "out" / name, "done", 0.0, "") for name in ("a.ome.tif", "b.tif")
    )
    assert [image.certified for image in facts.images] == [True, False]
    assert facts.exact() == 1


def test_a_plan_is_drawn_to_scale() -> None:
    tiling = plan((3000, 2600), Locality.isotropic(16, Halo(90, 90)), 1216)
    drawn = draw_plan(tiling)
    scale = drawn.width / tiling.extent[1]
    assert drawn.height == pytest.approx(tiling.extent[0] * scale, abs=0.01)
    assert drawn.zones == (3, 3)
    assert drawn.inner.window.width == pytest.approx(1216 * scale, abs=0.01)
    assert drawn.inner.zone.width == pytest.approx(1024 * scale, abs=0.01)
    assert drawn.sides == (96, 96, 96, 96)
    assert drawn.corner is not None
    assert drawn.corner.window.x + drawn.corner.window.width == pytest.approx(drawn.width, abs=0.02)
    assert drawn.borders.count("M") == 4


def test_a_large_plan_stays_legible_and_small() -> None:
    tiling = plan((200_000, 900_000), Locality.isotropic(16, Halo(90, 90)), 512)
    drawn = draw_plan(tiling)
    places = sorted(float(at) for at in re.findall(r"M([\d.]+) 0V", drawn.borders))
    assert min(b - a for a, b in pairwise(places)) >= LEAST_GAP
    assert len(drawn.borders) < 5000


def test_the_plan_of_a_certificate_is_the_plan_that_was_run(run: Path) -> None:
    for name, certificate in zip(NAMES, certificates(run), strict=True):
        path = run / "out" / "certificates" / f"{name}.json"
        tiling = plan_of(read_certificate(path).run)
        assert list(tiling.window) == certificate["plan"]["window"]
        assert tiling.count == certificate["plan"]["windows"]
        assert round(tiling.computed_ratio, 4) == certificate["plan"]["computed_ratio"]


def test_of_thousands_of_images_as_many_as_fit_are_shown_at_equal_distances() -> None:
    assert spread(5) == frozenset(range(5))
    shown = sorted(spread(10_000))
    assert len(shown) == MOST_EMBEDDED
    assert {b - a for a, b in pairwise(shown)} <= {208, 209}
