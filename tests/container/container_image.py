"""The image that .ci/container/build made, run by podman as workflow engines run it.

Nothing here is skipped: these tests are chosen by `-m container`, and then podman and the image
have to be there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from program import Ended

ROOT = Path(__file__).parents[2]
IMAGE: str = json.loads((ROOT / "plugin.json").read_text(encoding="utf-8"))["containerId"]
SETTINGS = ROOT / ".ci" / "container" / "containers.conf"

WITHOUT_TEMPORARY_FILES = "--read-only-tmpfs=false"
"""Docker and Kubernetes mount nothing on /tmp beside a read-only root; podman does unless told."""


def podman(*words: object, check: bool = True, timeout: float = 280) -> Ended:
    """Run podman and return how it ended; with `check`, an exit code other than 0 is a failure."""
    if shutil.which("podman") is None:
        pytest.fail("podman is not installed: run .ci/container/install")
    done = subprocess.run(
        ["podman", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
    )
    assert not check or done.returncode == 0, done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


def environment() -> dict[str, str]:
    """Return the environment in which podman and what calls it run."""
    return {"CONTAINERS_CONF": str(SETTINGS)} | os.environ


@cache
def description() -> dict[str, Any]:
    """Return what podman says about the image."""
    found = podman("image", "inspect", IMAGE, check=False)
    if found.code:
        pytest.fail(f"there is no image {IMAGE}: run .ci/container/base and .ci/container/build")
    result: dict[str, Any] = json.loads(found.out)[0]
    return result


def writable(folder: Path) -> Path:
    """Make a folder that any user may write to, and return it."""
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    return folder


def segment(
    inp_dir: Path,
    out_dir: Path,
    *arguments: object,
    options: tuple[str, ...] = (),
    user: str = "1000:1000",
    memory: str = "4g",
    results: str = "rw",
) -> Ended:
    """Run the image's entry point on two folders, under the restrictions of a strict engine."""
    description()
    return podman(
        *("run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", f"--user={user}"),
        *(f"--memory={memory}", *options),
        *(f"--volume={inp_dir}:/data/inputs:ro", f"--volume={out_dir}:/data/outputs:{results}"),
        *(IMAGE, "--inpDir", "/data/inputs", "--outDir", "/data/outputs", *arguments),
        check=False,
    )
