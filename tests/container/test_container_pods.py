"""The pods of kubernetes/ run for real: three shards of one image, one killed and tried again.

`podman kube play` runs Pods, not Jobs: each pod is made from a Job's template as the controller
would make it, with folders of this machine for the volumes and the index that an Indexed Job sets.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import noise_image, write_image, write_random_model
from container_image import ROOT, description, podman, writable
from program import arguments, finish, start

pytestmark = pytest.mark.container

NAME = "slide.ome.tif"
SHARDS = 3
KILLED = 1
"""The shard that is killed, after the first of its four tiles; it has neighbours on both sides."""


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """The two volumes, by name; pods that are left are removed."""
    description()
    images = tmp_path / "images"
    write_image(images / NAME, noise_image((2500, 4000)))
    write_random_model(images / "model", base_width=8)
    images.chmod(0o755)
    yield {"images": images, "results": writable(tmp_path / "results")}
    for name in podman("pod", "ps", "--filter=name=exactile-", "--format={{.Name}}").out.split():
        podman("pod", "rm", "--force", "--time=5", name)


def make_pod(file: str, name: str, folders: dict[str, Path], **variables: str) -> dict[str, Any]:
    """Return the pod that a cluster makes of the Job in `file`."""
    [job] = yaml.safe_load_all((ROOT / "kubernetes" / file).read_text(encoding="utf-8"))
    spec = job["spec"]["template"]["spec"]
    [container] = spec["containers"]
    container["env"] += [{"name": key, "value": value} for key, value in variables.items()]
    for volume in spec["volumes"]:
        if volume.pop("persistentVolumeClaim", None):
            volume["hostPath"] = {"path": str(folders[volume["name"]]), "type": "Directory"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def play(pod: dict[str, Any], folder: Path) -> str:
    """Start a pod, in the place of one of the same name, and return its container's name."""
    file = folder / f"{pod['metadata']['name']}.yaml"
    file.write_text(yaml.safe_dump(pod), encoding="utf-8")
    podman("kube", "play", "--network=none", "--replace", file)
    return f"{pod['metadata']['name']}-{pod['spec']['containers'][0]['name']}"


def wait(container: str) -> int:
    """Wait until a container ends, and return its exit code."""
    return int(podman("wait", container).out)


def test_three_pods_of_which_one_is_killed_give_the_bytes_of_one_run(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    pods = [
        make_pod("job.yaml", f"exactile-{i}", folders, JOB_COMPLETION_INDEX=str(i))
        for i in range(SHARDS)
    ]
    for pod in pods:
        options = ("--model", "/data/inputs/model", "--engine", "eager", "--tileSize", "512")
        pod["spec"]["containers"][0]["args"] += options
    containers = [play(pod, tmp_path) for pod in pods]

    wait_for_a_stored_tile(containers[KILLED], folders["results"])
    podman("kill", "--signal=KILL", containers[KILLED])
    codes = [wait(container) for container in containers]
    logs = [podman("logs", container) for container in containers]
    assert codes == [137 if i == KILLED else 0 for i in range(SHARDS)], logs

    again = play(pods[KILLED], tmp_path)
    assert wait(again) == 0
    retried = podman("logs", again)
    assert "goes on" in retried.out + retried.log, retried.log

    assemble = play(make_pod("assemble.yaml", "exactile-assemble", folders), tmp_path)
    assert wait(assemble) == 0, podman("logs", assemble)
    whole = tmp_path / "whole"
    options = {"model": folders["images"] / "model", "engine": "eager", "tileSize": 512}
    ended = finish(start(arguments(folders["images"], whole, **options)))
    assert ended.code == 0, ended.log
    made = folders["results"] / "images" / NAME
    assert made.read_bytes() == (whole / NAME).read_bytes()


def wait_for_a_stored_tile(container: str, results: Path) -> None:
    """Wait until the shard to be killed has stored a tile, and fail if it ends before."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        running = podman("inspect", "--format={{.State.Running}}", container).out.strip()
        assert running == "true", podman("logs", container)
        journals = results.rglob(f"*_y{KILLED:05d}_*.partial/journal")
        if any('"tile":' in journal.read_text(encoding="utf-8") for journal in journals):
            return
        time.sleep(0.1)
    pytest.fail(f"{container} stored nothing in 200 s")
