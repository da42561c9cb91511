"""The README is true: its commands run, its options are the program's."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import noise_image, write_image, write_random_model
from mosaics import grid_of_tiles
from typer.main import get_command

from exactile import __version__
from exactile.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL_BLOCKS = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
SEGMENT_COMMANDS = [
    line for line in "".join(SHELL_BLOCKS).splitlines() if line.startswith("exactile ")
]


def test_the_section_of_two_commands_has_two_commands_of_one_line() -> None:
    section = README.split("## Two commands\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    assert [len(block.splitlines()) for block in blocks] == [1, 1]
    assert blocks[0].rstrip().endswith("exactile demo")
    assert blocks[1].rstrip().endswith("pytest")


@pytest.mark.parametrize("command", SEGMENT_COMMANDS)
def test_every_command_of_the_shell_section_runs(command: str, tmp_path: Path) -> None:
    write_image(tmp_path / "slides" / "slide_1.ome.tif", noise_image((300, 420)))
    write_random_model(tmp_path / "model", depth=2, base_width=4)
    grid_of_tiles(2, 2, (90, 100)).write(
        tmp_path / "tiles", tmp_path / "vectors" / "img-global-positions-1.txt"
    )
    words = shlex.split(command)[1:]
    done = subprocess.run(
        [sys.executable, "-m", "exactile", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    if "--outDir" in words:
        made = tmp_path / words[words.index("--outDir") + 1]
        expected = "slide_1.ome.tif"
        if "--preview" in words:
            expected = "preview.json"
        elif "--mosaicOutput" in words:
            expected = "tile r00 c01.ome.tif"
        elif "--stitchingVector" in words:
            expected = "img-global-positions-1.ome.tif"
        elif words[0] == "statistics":
            expected = "exactile/statistics/slide_1.ome.tif.json"
        assert (made / expected).is_file()


@pytest.mark.parametrize(
    "command", [line for line in "".join(SHELL_BLOCKS).splitlines() if line.startswith("torchrun ")]
)
def test_every_command_of_torchrun_runs(command: str, tmp_path: Path) -> None:
    write_image(tmp_path / "slides" / "slide_1.ome.tif", noise_image((300, 420)))
    write_random_model(tmp_path / "model", depth=2, base_width=4)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *shlex.split(command)[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "labels" / "slide_1.ome.tif").is_file()


def test_every_option_is_in_the_table_and_the_other_way_round() -> None:
    table = set(re.findall(r"^\| `(--\w+)`", README, flags=re.MULTILINE))
    command = get_command(app).commands["segment"]  # type: ignore[attr-defined]
    assert table == {parameter.opts[0] for parameter in command.params}


def test_files_that_the_readme_links_to_are_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_images_version_is_the_programs() -> None:
    assert set(re.findall(r"exactile/exactile:([\w.]+)", README)) == {__version__}
