"""The pods of kubernetes/partition.yaml run for real: two, which share this machine's loopback.

`podman kube play` runs Pods, not Jobs and Services: each pod is made from the Job's template as the
controller would make it, with folders of this machine for the volumes, and the name of the first
pod is `localhost`.
"""

from __future__ import annotations

import socket
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


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """The two volumes, by name; pods that are left are removed."""
    description()
    images = tmp_path / "images"
    write_image(images / NAME, noise_image((1500, 1100)))
    write_random_model(images / "model", base_width=4, depth=2)
    images.chmod(0o755)
    yield {"images": images, "results": writable(tmp_path / "results")}
    found = podman("pod", "ps", "--filter=name=exactile-partition", "--format={{.Name}}").out
    for name in found.split():
        podman("pod", "rm", "--force", "--time=5", name)


def make_pod(index: int, folders: dict[str, Path], port: int) -> dict[str, Any]:
    """Return a pod that a cluster makes of the Job, with the network of this machine."""
    text = (ROOT / "kubernetes" / "partition.yaml").read_text(encoding="utf-8")
    [job] = [each for each in yaml.safe_load_all(text) if each["kind"] == "Job"]
    spec = job["spec"]["template"]["spec"]
    del spec["subdomain"]
    spec["hostNetwork"] = True
    [container] = spec["containers"]
    container["args"] = [
        f"--rdzv-endpoint=localhost:{port}" if word.startswith("--rdzv-endpoint=") else word
        for word in container["args"]
    ]
    # A cluster knows the names of pods, by the Service. Here they are known by addresses, of which
    # each has its own: torchrun tells nodes apart by that and the process's number, 1 in each pod.
    container["args"].insert(0, f"--local-addr=127.0.0.{index + 1}")
    container["args"] += ["--model", "/data/inputs/model"]
    container["env"].append({"name": "NUM_THREADS", "value": "1"})
    for volume in spec["volumes"]:
        if volume.pop("persistentVolumeClaim", None):
            volume["hostPath"] = {"path": str(folders[volume["name"]]), "type": "Directory"}
    name = f"exactile-partition-{index}"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_two_pods_together_write_the_bytes_of_one_run(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    containers = []
    for index in range(2):
        pod = make_pod(index, folders, port)
        file = tmp_path / f"pod-{index}.yaml"
        file.write_text(yaml.safe_dump(pod), encoding="utf-8")
        podman("kube", "play", "--network=host", "--replace", file)
        containers.append(f"{pod['metadata']['name']}-{pod['spec']['containers'][0]['name']}")
    codes = [int(podman("wait", container).out) for container in containers]
    assert codes == [0, 0], [podman("logs", container) for container in containers]

    whole = tmp_path / "whole"
    options = {"model": folders["images"] / "model", "engine": "eager"}
    ended = finish(start(arguments(folders["images"], whole, **options), NUM_THREADS="1"))
    assert ended.code == 0, ended.log
    made = folders["results"] / "images" / NAME
    assert made.read_bytes() == (whole / NAME).read_bytes()
