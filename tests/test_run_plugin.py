"""run-plugin.sh: what it asks of the container engine; a script that writes its words stands in."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "run-plugin.sh"


def words_for(folder: Path, *options: object, engine: str = "podman") -> list[str]:
    """Return the words that the engine is run with; it has no other image than that for CPUs."""
    for name in ("in", "bin", "a model", "stats"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "vector.txt").touch()
    stand_in = folder / "bin" / engine
    stand_in.write_text('#!/bin/sh\n[ "$1" = run ] || exit 1\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    environment = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "CONTAINER_ENGINE": str(stand_in),
    }
    command = [SCRIPT, folder / "in", folder / "out", *options]
    ended = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize(
    ("option", "value"),
    [("--model", "a model"), ("--statistics", "stats"), ("--stitchingVector", "vector.txt")],
)
def test_what_options_name_is_mounted_and_given_by_its_name_inside(
    tmp_path: Path, option: str, value: str, joined: bool
) -> None:
    given = [f"{option}={value}"] if joined else [option, value]
    words = words_for(tmp_path, *given, "--tileSize", "512")
    inside = f"/data/{option[2:]}/{value}"
    assert f"{tmp_path / value}:{inside}:ro" in words
    assert (f"{option}={inside}" if joined else inside) in words
    assert words[-2:] == ["--tileSize", "512"]


def test_names_that_are_not_here_are_left_as_they_are(tmp_path: Path) -> None:
    words = words_for(tmp_path, "--model=/inside/model", "--model", "--tileSize", "512")
    assert words[-4:] == ["--model=/inside/model", "--model", "--tileSize", "512"]
    assert not [word for word in words if word.startswith("/data/model")]


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_files_belong_to_who_runs_podman_without_root(tmp_path: Path, engine: str) -> None:
    words = words_for(tmp_path, engine=engine)
    assert f"{os.getuid()}:{os.getgid()}" in words
    assert ("--userns=keep-id" in words) == (engine == "podman" and os.getuid() != 0)
