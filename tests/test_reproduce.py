"""The papers' experiments in a tiny form: what must hold whatever the size."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from exactile.engines.eager import make_engine
from exactile.errors import OutputError, SettingsError
from exactile.geometry import Box, Halo, Interval
from exactile.report.progress import LogWatcher
from exactile.reproduce import Form, Reproduction, choose_form, reproduce
from exactile.reproduce.experiments import HaloTable, OffsetCurve, Shortfall, quick_form
from exactile.reproduce.findings import of_table
from exactile.reproduce.measure import Errors, plan_with, reached_from_beyond, single
from exactile.reproduce.networks import build, make_image
from exactile.reproduce.published import published_table
from exactile.reproduce.recipes import RandomUNet
from exactile.reproduce.tables import scientific

CPU = torch.device("cpu")

SMALL = RandomUNet(4, depth=2, convolutions=1, calibrated="slide")
"""F = 4; formula 10, needed 11."""

TINY = Form(
    images=2,
    tables=(
        HaloTable(
            "small",
            "Small",
            SMALL,
            "slide",
            (192, 320),
            128,
            (0, 4, 8, 12, 16),
            ("jres_unet_trained_tile512", "arxiv_unet_trained_tile512"),
        ),
    ),
    offsets=OffsetCurve("offsets", "Offsets", SMALL, 128, largest=9, inset=12),
    shortfalls=(Shortfall(RandomUNet(4, 1, 1, calibrated="noise"), (256, 256), 128),),
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    return reproduce(tmp_path_factory.mktemp("reproduce"), TINY, CPU, LogWatcher())


def test_sufficient_halos_agree_and_others_do_not(tiny: Reproduction) -> None:
    rows = {row.halo.low: row for row in tiny.tables[0].rows}
    for halo in (12, 16):
        assert rows[halo].largest < 1e-5
        assert rows[halo].me == 0
    for halo in (0, 4, 8):
        assert rows[halo].largest > 1e-3
        assert rows[halo].me > 0
    assert all(a.rmse > b.rmse for a, b in pairwise(rows[halo] for halo in (0, 4, 8, 12)))


def test_sufficient_halos_give_exactly_zero_in_windows_of_ample_size(tmp_path: Path) -> None:
    """The bundled model with the published tile: bit-equal, not nearly."""
    (table, *_), offsets = quick_form().tables, OffsetCurve("o", "O", SMALL, 64, 4, 12)
    strip = HaloTable(
        table.name, table.title, table.network, "slide", (512, 1024), 512, (80, 96), table.published
    )
    made = reproduce(tmp_path, Form(1, (strip,), offsets, ()), CPU, LogWatcher())
    short, exact = made.tables[0].rows
    assert short.rmse > 0
    assert (exact.rmse, exact.largest, exact.different, exact.me) == (0.0, 0.0, 0, 0)
    assert "the RMSE is 0.0 exactly" in " ".join(of_table(made.tables[0]))
    assert "**0.0** | 4.17e-10 | 0.0 |" in made.report.read_text()


def test_offsets_change_nothing_only_at_multiples_of_the_alignment(tiny: Reproduction) -> None:
    errors = tiny.offsets.errors
    assert tiny.offsets.alignment == 4
    assert len(errors) == 10
    for offset, found in enumerate(errors):
        assert (found.largest < 1e-5) == (offset % 4 == 0)


def test_the_formula_is_too_small_for_a_shallow_network(tiny: Reproduction) -> None:
    (found,) = tiny.shortfalls
    assert (found.formula.halo, found.exact.halo) == (Halo(4, 4), Halo(6, 6))
    assert found.formula.double.largest > 1e-3
    assert found.formula.reached > 0
    assert found.exact.double.largest < 1e-12
    assert found.exact.reached == 0


def test_the_needed_halo_is_a_row_even_where_the_papers_have_none(tmp_path: Path) -> None:
    table = HaloTable(
        "t", "T", SMALL, "noise", (64, 320), 128, (0, 8), ("arxiv_modified_unet_tile1032",)
    )
    offsets = OffsetCurve("o", "O", SMALL, 64, 4, 12)
    made = reproduce(tmp_path, Form(1, (table,), offsets, ()), CPU, LogWatcher())
    assert [row.halo.low for row in made.tables[0].rows] == [0, 8, 12]
    assert made.tables[0].exact_row.zone == 104


def test_files_set_published_figures_beside_ours(tiny: Reproduction) -> None:
    folder = tiny.report.parent
    assert sorted(path.name for path in folder.iterdir()) == [
        "formula_too_small.csv",
        "offsets.csv",
        "offsets.png",
        "report.md",
        "small.csv",
        "small.png",
    ]
    with (folder / "small.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["rmse"]) == tiny.tables[0].rows[0].rmse
    assert (rows[0]["jres_rmse"], rows[0]["arxiv_rmse"]) == ("0.0111", "0.013")
    assert rows[1]["jres_rmse"] == ""
    assert rows[4]["jres_relative_runtime"] == "1.31"
    text = tiny.report.read_text()
    assert "- Small: halo 12 px, RMSE" in text
    columns = [line.count(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert set(columns[:7]) == {14}
    assert tiny.describe().endswith(f"wrote {tiny.report}")
    assert "RMSE, ours | RMSE, JRES | RMSE, arXiv" in text
    assert "2 images for each row; published: 20" in text
    assert "images of 320 x 192 px; published: 3584 x 3584 (JRES) and 3824 x 3824 (arXiv)" in text
    assert str(folder) not in text


def test_published_tables_are_those_of_the_papers() -> None:
    table = published_table("jres_fcdensenet56_tile1152")
    assert (table.paper, table.side, len(table.rows)) == ("JRES", 2304, 13)
    last = table.row(384)
    assert last is not None
    assert (last.zone, last.rmse, last.me, last.relative_runtime) == (384, 1.37e-8, 0, 5.89)
    arxiv = published_table("arxiv_unet_trained_tile512").row(0)
    assert arxiv is not None
    assert arxiv.mer == 6052.6 / 3824**2
    assert arxiv.relative_runtime is None
    for form in (choose_form(quick=False), quick_form()):
        for name in (name for each in form.tables for name in each.published):
            tile = int(name.rpartition("tile")[2])
            assert all(row.zone + 2 * row.halo == tile for row in published_table(name).rows)


def test_the_published_form_has_the_published_tiles_halos_and_images() -> None:
    form = choose_form(quick=False)
    assert form.images == 20
    for table in form.tables:
        rows = {row.halo for name in table.published for row in published_table(name).rows}
        assert rows == set(table.halos)
        assert table.shape[0] in {published_table(name).side for name in table.published}
    strips = choose_form(False, rows=1160)
    assert [table.shape for table in strips.tables] == [
        (1152, 3584),
        (1152, 3584),
        (1152, 3824),
        (1152, 2304),
    ]


def test_zones_are_what_a_given_halo_leaves_of_the_tile() -> None:
    plan = plan_with((3584, 3584), 1032 - 8, 16, Halo(96, 96))
    assert (plan.window, plan.zone) == ((1024, 1024), (832, 832))
    assert plan_with((256, 2304), 1152, 32, Halo(384, 416)).zone == (256, 352)
    with pytest.raises(ValueError, match="multiples of F = 16"):
        plan_with((250, 256), 128, 16, Halo(16, 16))


def test_poison_from_beyond_a_halo_is_seen_exactly_where_the_halo_is_too_small() -> None:
    forward = single(make_engine(build(SMALL), CPU, "float32"))
    image, zone = make_image("noise", (96, 96), 0), Box((Interval(32, 64), Interval(32, 64)))
    assert reached_from_beyond(forward, image, zone, (Halo(11, 11),) * 2) == 0
    assert reached_from_beyond(forward, image, zone, (Halo(10, 11),) * 2) > 0


def test_networks_and_images_come_from_seeds() -> None:
    a, b = build(SMALL).state_dict(), build(SMALL).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert (make_image("slide", (64, 64), 3) == make_image("slide", (64, 64), 3)).all()


def test_errors_of_parts_add_up_to_those_of_the_whole() -> None:
    torch.manual_seed(0)
    a = torch.randn(3, 8, 10)
    b = a + 0.5 * torch.randn(3, 8, 10)
    parts = Errors.between(a[:, :5], b[:, :5]) + Errors.between(a[:, 5:], b[:, 5:])
    whole = Errors.between(a, b)
    assert parts.rmse == pytest.approx(whole.rmse)
    softmax = (torch.softmax(a, 0) - torch.softmax(b, 0)).double()
    assert whole.rmse == pytest.approx(float(softmax.square().mean().sqrt()))
    assert (parts.misclassified, parts.different, parts.pixels) == (
        whole.misclassified,
        whole.different,
        80,
    )


def test_only_zero_is_written_as_zero() -> None:
    assert [scientific(value) for value in (0.0, 1e-300, 0.0111)] == ["0.0", "1.00e-300", "1.11e-2"]


def test_a_folder_that_cannot_be_written_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"--outDir .*file: cannot be written .*choose another"):
        reproduce(tmp_path / "file", TINY, CPU, LogWatcher())


def test_what_cannot_fit_into_memory_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"takes about .* GB, and there are .*--width"):
        reproduce(tmp_path / "new", choose_form(False, width=100_000), CPU, LogWatcher())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("options", [{"images": 0}, {"width": 0}, {"rows": 100}])
def test_a_form_of_nothing_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match="use at least"):
        choose_form(quick=False, **options)


def test_a_quick_form_takes_images_and_width_but_no_rows() -> None:
    form = choose_form(quick=True, images=3, width=4)
    assert form.images == 3
    assert form.tables[1].network.title.endswith("base width 4")
    with pytest.raises(SettingsError, match=r"--rows .* leave out --quick"):
        choose_form(quick=True, rows=512)
