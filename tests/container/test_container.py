"""The image: what is in it, and that a run gives the bytes of the host under every restriction."""

from __future__ import annotations

import json
import os
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import noise_image, write_image
from container_image import (
    IMAGE,
    ROOT,
    WITHOUT_TEMPORARY_FILES,
    description,
    environment,
    podman,
    segment,
    writable,
)
from program import arguments, files_in, finish, results_in, start

pytestmark = pytest.mark.container

NAME = "two words é.ome.tif"
BLANKS = ("--filePattern", "", "--model", "", "--normalization", "", "--channel", "")


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one image of 1100 x 900 pixels."""
    folder = tmp_path_factory.mktemp("slides")
    write_image(folder / NAME, noise_image((1100, 900)))
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def labels(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What this machine makes of it without a container, on the engine that `auto` takes."""
    folder = tmp_path_factory.mktemp("labels")
    ended = finish(start(arguments(slides, folder, engine="auto", tileSize=512)))
    assert ended.code == 0, ended.log
    return (folder / NAME).read_bytes()


def test_it_has_the_versions_of_the_constraints_and_not_what_a_run_does_not_need() -> None:
    pinned = dict(
        re.findall(r"^(\S+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    )
    code = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({d.name: d.version for d in m.distributions()}))"
    )
    listed = podman("run", "--rm", "--network=none", "--entrypoint=python", IMAGE, "-c", code)
    found = {_key(name): text.partition("+")[0] for name, text in json.loads(listed.out).items()}
    assert found.pop("exactile") == version("exactile")
    expected = {_key(name): text for name, text in pinned.items()}
    # Beside the constraints there may only be what PyTorch's build for GPUs brings.
    unknown = {name for name in found.keys() - expected.keys() if not _is_of_gpu(name)}
    # The base image's own, which the program does not see.
    assert unknown <= {"pip", "setuptools", "wheel"}
    assert {name: found[name] for name in found.keys() & expected.keys()} == {
        name: expected[name] for name in found.keys() & expected.keys()
    }
    assert {"torch", "openvino", "bfio"} <= found.keys()
    assert not {"pytest", "mypy", "ruff", "hypothesis"} & found.keys()


def _key(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def _is_of_gpu(name: str) -> bool:
    return name.startswith(("nvidia-", "cuda-")) or name == "triton"


def test_it_is_run_by_no_privileged_user_and_begins_with_the_program() -> None:
    config = description()["Config"]
    assert config["User"] == "1000:1000"
    assert config["Entrypoint"] == ["exactile", "segment"]
    assert not [line for line in config["Env"] if line.startswith(("PIP_", "TORCH_"))]


def test_a_run_as_engines_send_it_gives_the_bytes_of_the_host(
    slides: Path, labels: bytes, tmp_path: Path
) -> None:
    out = writable(tmp_path / "out")
    sent = (*BLANKS, "--preview", "false", "--tileSize", "512", "--resume", "true")
    ended = segment(slides, out, *sent)
    assert ended.code == 0, ended.log
    assert (out / NAME).read_bytes() == labels
    assert results_in(out) == sorted([NAME, f"certificates/{NAME}.json"])


def test_an_unknown_user_with_no_place_for_temporary_files_gives_the_same_bytes(
    slides: Path, labels: bytes, tmp_path: Path
) -> None:
    out = writable(tmp_path / "out")
    ended = segment(
        *(slides, out, "--tileSize", "512"),
        options=(WITHOUT_TEMPORARY_FILES,),
        user="12345:12345",
    )
    assert ended.code == 0, ended.log
    assert (out / NAME).read_bytes() == labels
    assert {path.stat().st_uid for path in out.rglob("*")} == {12345}


def test_windows_are_chosen_within_the_memory_of_the_container(
    slides: Path, tmp_path: Path
) -> None:
    out = writable(tmp_path / "out")
    ended = segment(slides, out, memory="1500m")
    assert ended.code == 0, ended.log
    assert "memory ran out" not in ended.log
    assert (out / NAME).is_file()


def test_a_failed_image_is_an_exit_code_and_no_result(slides: Path, tmp_path: Path) -> None:
    broken = tmp_path / "in"
    broken.mkdir()
    (broken / "broken.ome.tif").write_bytes((slides / NAME).read_bytes()[:4000])
    out = writable(tmp_path / "out")
    ended = segment(broken, out)
    assert ended.code == 1
    assert any("broken.ome.tif" in line for line in ended.errors)
    assert files_in(out) == []


def test_results_that_may_not_be_written_are_one_message(slides: Path, tmp_path: Path) -> None:
    out = writable(tmp_path / "out")
    ended = segment(slides, out, results="ro")
    assert ended.code == 1
    assert len(ended.errors) == 1
    assert "/data/outputs" in ended.errors[0]
    assert "Traceback" not in ended.log


def test_run_plugin_runs_it_on_folders_with_spaces(
    slides: Path, labels: bytes, tmp_path: Path
) -> None:
    inp, out = tmp_path / "my slides", tmp_path / "my labels"
    inp.mkdir()
    os.link(slides / NAME, inp / NAME)
    done = subprocess.run(
        [ROOT / "run-plugin.sh", inp, out, "--tileSize", "512", "--filePattern", ".* é.ome.tif"],
        env=environment() | {"CONTAINER_ENGINE": "podman"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (out / NAME).read_bytes() == labels
    assert (out / NAME).stat().st_uid == os.getuid()


def test_run_plugin_gives_the_container_the_model(
    slides: Path, small_model: Path, tmp_path: Path
) -> None:
    options = {"model": small_model, "engine": "eager", "tileSize": 64}
    host = finish(start(arguments(slides, tmp_path / "host", **options)))
    assert host.code == 0, host.log
    model = os.path.relpath(small_model, tmp_path)
    eager = ("--engine", "eager", "--tileSize", "64")
    done = subprocess.run(
        [ROOT / "run-plugin.sh", slides, "out", "--model", model, *eager],
        cwd=tmp_path,
        env=environment() | {"CONTAINER_ENGINE": "podman"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / NAME).read_bytes() == (tmp_path / "host" / NAME).read_bytes()


def test_run_plugin_passes_the_exit_code_on(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [ROOT / "run-plugin.sh", tmp_path / "empty", tmp_path / "out"],
        env=environment() | {"CONTAINER_ENGINE": "podman"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "no images" in done.stderr or "no file" in done.stderr
