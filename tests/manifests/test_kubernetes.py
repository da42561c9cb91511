"""kubernetes/: jobs that a cluster takes, whose pods agree with each other and with the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from exactile import __version__
from exactile.cli import app

FOLDER = Path(__file__).parents[2] / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


RESOURCES = [(path.name, document) for path in FILES for document in documents(path)]
JOBS = {
    document["metadata"]["name"]: document for _, document in RESOURCES if document["kind"] == "Job"
}
CLAIMS = {d["metadata"]["name"] for _, d in RESOURCES if d["kind"] == "PersistentVolumeClaim"}


@pytest.mark.parametrize(("name", "resource"), RESOURCES, ids=lambda value: str(value)[:20])
def test_every_resource_is_valid_and_has_no_unknown_field(
    name: str, resource: dict[str, Any]
) -> None:
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(resource, version, strict=True)
    resource["spec"]["misspelt"] = 1
    try:
        with pytest.raises(kubernetes_validate.ValidationError, match="misspelt"):
            kubernetes_validate.validate(resource, version, strict=True)
    finally:
        del resource["spec"]["misspelt"]


def pod(job: str) -> dict[str, Any]:
    spec: dict[str, Any] = JOBS[job]["spec"]["template"]["spec"]
    return spec


def test_a_pod_is_told_how_many_shards_there_are() -> None:
    spec = JOBS["exactile-segment"]["spec"]
    assert spec["completionMode"] == "Indexed"
    [container] = pod("exactile-segment")["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment["JOB_COMPLETION_COUNT"] == str(spec["completions"])
    assert "JOB_COMPLETION_INDEX" not in environment


@pytest.mark.parametrize("job", sorted(JOBS))
def test_pods_are_nobody_special_and_write_to_their_volumes_only(job: str) -> None:
    [container] = pod(job)["containers"]
    assert pod(job)["securityContext"]["runAsNonRoot"] is True
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(job)["volumes"]}
    assert {mount["name"] for mount in mounts.values()} == set(volumes)
    assert "emptyDir" in volumes[mounts["/tmp"]["name"]]
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in volumes.values()
        if "persistentVolumeClaim" in volume
    }
    assert claims <= CLAIMS
    if "/data/inputs" in mounts:
        assert mounts["/data/inputs"]["readOnly"] is True


@pytest.mark.parametrize("job", sorted(JOBS))
def test_a_killed_pod_is_tried_again_and_a_wrong_option_is_not(job: str) -> None:
    spec = JOBS[job]["spec"]
    assert spec.get("backoffLimitPerIndex", spec.get("backoffLimit")) == 3
    actions = {rule["action"]: rule for rule in spec["podFailurePolicy"]["rules"]}
    assert actions["FailJob"]["onExitCodes"]["values"] == [2]
    assert actions["FailJob"]["onExitCodes"]["containerName"] == pod(job)["containers"][0]["name"]
    assert "false" not in pod(job)["containers"][0]["args"]


@pytest.mark.parametrize("job", sorted(JOBS))
def test_the_image_is_that_of_this_version(job: str) -> None:
    assert pod(job)["containers"][0]["image"] == f"exactile/exactile:{__version__}"


def test_assemble_reads_what_segment_wrote() -> None:
    def argument(job: str, name: str) -> str:
        words = pod(job)["containers"][0]["args"]
        return str(words[words.index(name) + 1])

    assert argument("exactile-assemble", "--inpDir") == argument("exactile-segment", "--outDir")


def test_pods_of_a_partitioned_run_meet_at_the_name_of_the_first_one() -> None:
    job = JOBS["exactile-partition"]
    [service] = [d for _, d in RESOURCES if d["kind"] == "Service"]
    words = pod("exactile-partition")["containers"][0]["args"]
    given = dict(word.removeprefix("--").split("=") for word in words if "=" in word)
    assert int(given["nnodes"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    # An Indexed Job calls its pods by its name and their index, in the service's domain.
    name, service_name = job["metadata"]["name"], service["metadata"]["name"]
    host, port = given["rdzv-endpoint"].split(":")
    assert host == f"{name}-0.{service_name}"
    assert port.isdecimal()
    assert pod(name)["subdomain"] == service_name
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}


def test_the_partitioned_run_is_given_options_of_its_command() -> None:
    words = pod("exactile-partition")["containers"][0]["args"]
    options = words[words.index("partition") + 1 :: 2]
    command = get_command(app).commands["partition"]  # type: ignore[attr-defined]
    assert set(options) <= {parameter.opts[0] for parameter in command.params}
