"""The command line: what an engine or a person may send, and what a run leaves behind."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from conftest import noise_image, write_image, write_random_model
from program import Ended, arguments, call, files_in, results_in
from rich.console import Console

from exactile import __version__
from exactile.cli import plain_booleans
from exactile.errors import SettingsError
from exactile.images import DEFAULT_PATTERN
from exactile.models.loading import BUNDLED
from exactile.models.saving import WEIGHTS_NAME
from exactile.report import progress
from exactile.report.progress import BarWatcher, LogWatcher, make_watcher

NAME = "image.ome.tif"

OPTIONAL = (
    *(
        "filePattern",
        "model",
        "normalization",
        "outputType",
        "tileSize",
        "device",
        "precision",
        "engine",
        "memory",
        "resume",
    ),
    *("channel", "verify", "statistics"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_image(tmp_path / "in" / NAME, noise_image((60, 70)))
    return tmp_path


def run(folder: Path, *rest: str, environment: dict[str, str] | None = None, **options) -> Ended:
    words = arguments(folder / "in", folder / "out", *rest, **options)
    return call(words, **(environment or {}))


def preview(folder: Path, **environment: str) -> list[str]:
    """Return the names of the results that `--preview` foretells."""
    ended = run(folder, "--preview", filePattern=r".*\.tiff?", environment=environment)
    assert ended.code == 0, ended.log
    names: list[str] = json.loads((folder / "out" / "preview.json").read_text())["outDir"]
    return names


def certificate_of(folder: Path) -> dict:
    content: dict = json.loads((folder / "out" / "certificates" / f"{NAME}.json").read_text())
    return content


# What the program says about itself


def test_the_version_is_said() -> None:
    ended = call(["--version"])
    assert (ended.code, ended.out) == (0, f"{__version__}\n")
    assert __version__ == (Path(__file__).parents[1] / "VERSION").read_text().strip()


def test_the_help_names_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ended = call(["segment", "--help"])
    assert ended.code == 0
    for name in ("inpDir", "outDir", *OPTIONAL, "pyramid", "preview"):
        assert f"--{name} " in ended.out
    assert DEFAULT_PATTERN in ended.out


# How engines send options


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--preview"], True),
        (["--preview", "true"], True),
        (["--preview", "True"], True),
        (["--preview=true"], True),
        (["--preview=True"], True),
        (["--preview", "false"], False),
        (["--preview", "False"], False),
        (["--preview=false"], False),
        (["--preview", ""], False),
        (["--preview="], False),
        ([], False),
    ],
)
@pytest.mark.parametrize("place", ["first", "last"])
def test_booleans_are_understood_in_all_forms_wherever_they_stand(
    folder: Path, small_model: Path, words: list[str], expected: bool, place: str
) -> None:
    command, *rest = arguments(folder / "in", folder / "out", model=small_model)
    ended = call([command, *words, *rest] if place == "first" else [command, *rest, *words])
    assert ended.code == 0, ended.log
    expected_files = ["preview.json"] if expected else [f"certificates/{NAME}.json", NAME]
    assert results_in(folder / "out") == expected_files


def test_a_boolean_takes_no_word_that_is_not_its_own() -> None:
    words = ["--preview", "--outDir", "true", "--inpDir", "in"]
    assert plain_booleans(words) == words
    with pytest.raises(SettingsError, match=r"--preview 'on' is neither true nor false"):
        plain_booleans(["--preview=on"])


def test_options_left_blank_are_absent(folder: Path) -> None:
    blank = dict.fromkeys(OPTIONAL, "")
    empty = {"POLUS_LOG": "", "POLUS_IMG_EXT": "", "NUM_THREADS": ""}
    assert run(folder, "--preview", "", environment=empty, **blank).code == 0
    with_blanks = certificate_of(folder)
    (folder / "out" / NAME).unlink()
    assert run(folder, engine="auto").code == 0
    assert with_blanks["settings"] == certificate_of(folder)["settings"]
    assert with_blanks["settings"] == {
        "inpDir": str(folder / "in"),
        "outDir": str(folder / "out"),
        "filePattern": DEFAULT_PATTERN,
        "model": str(BUNDLED),
        "output": None,
        "channels": None,
        "normalization": None,
        "statistics": None,
        "outputType": "labels",
        "outputMeaning": "auto",
        "strategy": "auto",
        "tileSize": "auto",
        "device": "auto",
        "precision": "float32",
        "engine": "auto",
        "memory": "auto",
        "channel": None,
        "verify": 0,
        "resume": "auto",
        "shard": None,
        "stitchingVector": None,
        "mosaicOutput": "image",
        "zarrVersion": "0.4",
        "pyramid": False,
        "preview": False,
        "POLUS_IMG_EXT": None,
    }


def test_numbers_come_as_text(folder: Path, small_model: Path) -> None:
    ended = run(folder, model=small_model, tileSize=" 64", channel=" 0", device="cpu")
    assert ended.code == 0, ended.log
    settings = certificate_of(folder)["settings"]
    assert (settings["tileSize"], settings["channel"]) == (64, [0])


@pytest.mark.parametrize("write", ["--tileSize 64", "--tileSize=64"])
def test_values_may_follow_a_space_or_an_equals_sign(
    folder: Path, small_model: Path, write: str
) -> None:
    assert run(folder, *write.split(), model=small_model).code == 0
    assert certificate_of(folder)["settings"]["tileSize"] == 64


@pytest.mark.parametrize(
    ("given", "said", "unsaid"),
    [
        ("", ["INFO"], ["DEBUG"]),
        ("INFO", ["INFO"], ["DEBUG"]),
        ("info", ["INFO"], ["DEBUG"]),
        ("logging.INFO", ["INFO"], ["DEBUG"]),
        ("DEBUG", ["INFO"], []),
        ("WARNING", [], ["INFO"]),
        ("ERROR", [], ["INFO", "WARNING"]),
    ],
)
def test_polus_log_sets_the_level(
    folder: Path, small_model: Path, given: str, said: list[str], unsaid: list[str]
) -> None:
    ended = run(folder, model=small_model, environment={"POLUS_LOG": given})
    assert ended.code == 0
    levels = {line.split()[1] for line in ended.log.splitlines()}
    assert levels >= set(said)
    assert not levels & set(unsaid)


def test_num_threads_sets_the_threads_of_the_network(folder: Path, small_model: Path) -> None:
    ended = run(folder, model=small_model, device="cpu", environment={"NUM_THREADS": "1"})
    assert ended.code == 0
    assert certificate_of(folder)["device"] == "cpu (1 threads)"


# Names


@pytest.mark.parametrize(
    ("extension", "expected"),
    [
        ("", ["a.ome.tif", "b.ome.tiff", "c.ome.tif"]),
        (".ome.tif", ["a.ome.tif", "b.ome.tif", "c.ome.tif"]),
        (".ome.tiff", ["a.ome.tiff", "b.ome.tiff", "c.ome.tiff"]),
    ],
)
def test_outputs_keep_the_name_and_plain_tiff_becomes_ome_tiff(
    tmp_path: Path, small_model: Path, extension: str, expected: list[str]
) -> None:
    for name in ("a.ome.tif", "b.ome.tiff", "c.tif"):
        write_image(tmp_path / "in" / name, noise_image((20, 30)))
    assert preview(tmp_path, POLUS_IMG_EXT=extension) == expected
    (tmp_path / "out" / "preview.json").unlink()
    options = {"filePattern": r".*\.tiff?", "model": small_model}
    assert run(tmp_path, environment={"POLUS_IMG_EXT": extension}, **options).code == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.*")) == expected


def test_an_extension_that_cannot_be_written_is_refused(folder: Path) -> None:
    for words in ([], ["--preview"]):
        ended = run(folder, *words, environment={"POLUS_IMG_EXT": ".n5"})
        assert ended.code == 2
        assert (
            "'.n5' cannot be written; use one of .ome.tif, .ome.tiff, .ome.zarr, .zarr"
            in ended.errors[0]
        )
        assert not (folder / "out").exists()


def test_two_images_with_one_output_name_are_refused(folder: Path) -> None:
    write_image(folder / "in" / "image.tif", noise_image((20, 30)))
    ended = run(folder, filePattern=r".*\.tif")
    assert ended.code == 1
    assert f"{NAME} and image.tif would both be written to {NAME}" in ended.errors[0]


def test_a_pattern_chooses_among_the_files(tmp_path: Path, small_model: Path) -> None:
    for name in ("img_r001.ome.tif", "img_r002.ome.tif", "other.ome.tif"):
        write_image(tmp_path / "in" / name, noise_image((20, 30)))
    assert run(tmp_path, model=small_model, filePattern="img_r{r:ddd}.ome.tif").code == 0
    found = sorted(path.name for path in (tmp_path / "out").glob("*.tif"))
    assert found == ["img_r001.ome.tif", "img_r002.ome.tif"]


def test_preview_writes_the_names_and_nothing_else(folder: Path) -> None:
    write_image(folder / "in" / "b.ome.tiff", noise_image((20, 30)))
    ended = run(folder, "--preview", model="a model is not needed for names")
    assert ended.code == 0
    assert files_in(folder / "out") == ["preview.json"]
    assert json.loads((folder / "out" / "preview.json").read_text()) == {
        "filePattern": DEFAULT_PATTERN,
        "outDir": ["b.ome.tiff", NAME],
    }


def test_the_raw_output_of_a_step_before_is_read_from_its_folder_images(
    tmp_path: Path, small_model: Path
) -> None:
    write_image(tmp_path / "in" / "images" / NAME, noise_image((20, 30)))
    (tmp_path / "in" / "metadata.json").write_text("{}")
    assert run(tmp_path, model=small_model).code == 0
    assert results_in(tmp_path / "out") == [f"certificates/{NAME}.json", NAME]


# What a run leaves behind


def test_only_images_are_at_the_top_of_the_output_folder(folder: Path, small_model: Path) -> None:
    write_image(folder / "in" / "b.ome.tif", noise_image((20, 30)))
    assert run(folder, model=small_model).code == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "b.ome.tif",
        "certificates",
        "exactile",
        NAME,
    ]
    (folder / "in" / NAME).write_text("not an image any more")
    assert run(folder, model=small_model).code == 1
    assert len(results_in(folder / "out")) == 4


def test_the_certificate_says_what_was_done_with_what(tmp_path: Path) -> None:
    write_random_model(tmp_path / "model", depth=2, convolutions=1, base_width=8)
    pixels = noise_image((2, 1, 700, 600)).astype(np.uint16)
    image = write_image(tmp_path / "in" / NAME, pixels)
    model = tmp_path / "model"
    assert run(tmp_path, model=model, tileSize=256, channel=1).code == 0
    found = certificate_of(tmp_path)
    assert found["output"] == NAME
    assert found["input"] == {
        "name": NAME,
        "bytes": image.stat().st_size,
        "sha256": hashlib.sha256(image.read_bytes()).hexdigest(),
        "dimensions": {"T": 1, "C": 2, "Z": 1, "Y": 700, "X": 600},
        "dtype": "uint16",
        "channels": [1],
        "series": "1 of 1",
        "filled": "",
        "normalization": {
            "t=0 z=0": [
                {
                    "step": "Standardize",
                    "numbers": {
                        "mean": [pytest.approx(pixels[1].mean(), rel=1e-12)],
                        "deviation": [pytest.approx(pixels[1].std(), rel=1e-12)],
                    },
                }
            ]
        },
    }
    weights = hashlib.sha256((model / WEIGHTS_NAME).read_bytes()).hexdigest()
    assert (found["model"]["name"], found["model"]["sha256"]) == ("random", weights)
    axes = found["model"]["locality"]["axes"]
    assert [axis["alignment"] for axis in axes] == [4, 4]
    assert [axis["scale"] for axis in axes] == [1, 1]
    proof = found["model"]["proof"]
    assert proof["zones"] == {"interior": 1, "edge": 4, "corner": 4}
    assert proof["minimal"] == [[True, True], [True, True]]
    assert found["model"]["operators"]["aten.max_pool2d_with_indices"] == 2
    assert found["plan"]["window"] == [256, 256]
    assert found["plan"]["extent"] == [700, 600]
    rows, columns = (-(-side // found["plan"]["zone"][0]) for side in (700, 600))
    assert found["plan"]["windows"] == rows * columns
    assert found["plan"]["computed_ratio"] == round(rows * columns * 256**2 / 420_000, 4)
    assert (found["engine"], found["agreement"]) == ("eager", None)
    assert (found["plan"]["zones_run"], found["plan"]["zones_resumed"]) == (rows * columns, 0)
    digest = hashlib.sha256((tmp_path / "out" / NAME).read_bytes()).hexdigest()
    assert found["file"]["sha256"] == digest
    names = ("exactile", "torch", "numpy", "bfio", "tifffile", "imagecodecs", "zarr")
    expected = {name: version(name) for name in names}
    expected |= {"python": platform.python_version(), "machine": platform.machine()}
    assert found["versions"] == expected
    assert found["seconds"].keys() == {"check", "statistics", "segmentation"}


def test_the_claim_is_what_the_check_found(tmp_path: Path) -> None:
    write_random_model(tmp_path / "model", depth=2, convolutions=1, base_width=8)
    write_image(tmp_path / "in" / NAME, noise_image((700, 600)))
    assert run(tmp_path, model=tmp_path / "model", tileSize=256).code == 0
    found = certificate_of(tmp_path)
    assert found["bit_stability"]["equal"]
    assert found["bit_stability"]["compared"] > 0
    assert "bit for bit, in float32, wherever" in found["claim"]
    ended = run(tmp_path, model=tmp_path / "model")
    found = certificate_of(tmp_path)
    assert found["bit_stability"]["compared"] == 0
    assert found["claim"].startswith("The output is that of one pass over the whole image")
    assert "exact: each image is one window (700 x 600)" in ended.log


def test_without_a_terminal_progress_is_a_log_line_every_few_seconds(
    folder: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    ended = run(folder, model=small_model, tileSize=32)
    shares = re.findall(rf"{NAME}: (\d+) %, \d+\.\d\d Mpx/s, \d+ s left", ended.log)
    assert len(shares) > 4
    assert shares == sorted(shares, key=int)
    assert shares[-1] == "100"
    assert f"{NAME}: 0.0 Mpx in " in ended.log
    assert "1 of 1 images done: 0.0 Mpx in " in ended.log


def test_a_short_run_is_not_talked_about(folder: Path, small_model: Path) -> None:
    assert " % " not in run(folder, model=small_model).log


def test_on_a_terminal_progress_is_a_bar_with_speed_and_time_left() -> None:
    screen = io.StringIO()
    with make_watcher(Console(file=screen, force_terminal=True, width=120)) as watcher:
        assert isinstance(watcher, BarWatcher)
        watcher.begin("a.ome.tif", 2_000_000)
        watcher.advance(1_000_000)
        watcher.begin("b.ome.tif", 2_000_000)
        watcher.advance(500_000)
    shown = screen.getvalue()
    for part in ("b.ome.tif", "25 %", "Mpx/s", ":"):
        assert part in shown


def test_a_name_on_the_bar_is_shown_as_it_is() -> None:
    screen = io.StringIO()
    with BarWatcher(Console(file=screen, force_terminal=True, width=120)) as watcher:
        watcher.begin("[bold]a.ome.tif", 2_000_000)
    assert "[bold]a.ome.tif" in screen.getvalue()


def test_elsewhere_there_is_no_bar() -> None:
    assert isinstance(make_watcher(Console(file=io.StringIO())), LogWatcher)
