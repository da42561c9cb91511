"""argo/exactile.yaml: a WorkflowTemplate of Argo.

    statistics --> segment 0/n --+
              +--> segment 1/n --+--> assemble --> next (any plugin; left out if it is exactile)
              +--> ...         --+

Mosaics are measured as wholes, so with a stitching vector the step of the statistics is left out,
and the task `mosaic` is in the place of `segment`.

Every option of `exactile segment` is a parameter of the workflow, but those that the workflow gives
itself. Argo refuses a container without an image before it reads any condition, so every image has
a default. A step that fails or loses its pod is tried again and goes on where it was; exit code 2,
a wrong option, is not tried again. Limits are in podSpecPatch, because a quantity anywhere else is
read before parameters are filled in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from exactile.manifests import facts
from exactile.manifests.described import Described, described_options
from exactile.manifests.text import to_yaml

HEADER = f"""\
{facts.GENERATED}

  kubectl apply -f kubernetes/volumes.yaml
  argo template create argo/exactile.yaml
  argo submit --from workflowtemplate/exactile -p shards=8
  argo submit --from workflowtemplate/exactile -p gpus=1 -p image={facts.CUDA_CONTAINER}

Blank options are absent. A path such as the model's is one in the container: what the volume of
images holds is below {{inputs}}.
"""

INPUTS, OUTPUTS = "/data/inputs", "/data/outputs"
STATISTICS, PARTS, IMAGES, NEXT = (
    f"{OUTPUTS}/{name}" for name in ("statistics", "parts", "images", "next")
)

GIVEN = {
    "inpDir": INPUTS,
    "outDir": PARTS,
    "statistics": "{{inputs.parameters.statistics}}",
    "mosaicOutput": "image",
    "shard": "{{inputs.parameters.shard}}",
}
"""Options of `exactile segment` that the workflow gives itself."""

MEASURED = ("filePattern", "model", "output", "channels", "normalization", "channel")
"""What `exactile statistics` must be told as `exactile segment` is."""

OWN_PARAMETERS = (
    ("image", facts.CONTAINER, "The container of exactile; for GPUs, the one that ends in -cuda"),
    ("imagesClaim", "exactile-images", "The volume claim with the images; it is only read"),
    ("imagesPath", "", "Folder of the images in their volume; blank for its top"),
    ("resultsClaim", "exactile-results", "The volume claim for all that is written"),
    ("resultsPath", "", "Folder for the results in their volume; blank for its top"),
    ("shards", "3", "Into how many shards the work is split"),
    ("gpus", "0", "GPUs of each shard"),
    ("cpus", str(facts.CORES), "Cores of each shard"),
    (
        "threads",
        str(facts.CORES),
        "Threads of each step, as many as cores: all shards have as many",
    ),
    ("memoryLimit", "8Gi", "Memory of each shard; --memory auto takes what is left of it"),
    ("retries", "3", "How often a step is tried again"),
    (
        "nextImage",
        facts.CONTAINER,
        "The next step: a container that takes --inpDir and --outDir; exactile's own for none",
    ),
)


def argo_template() -> str:
    """Return the text of argo/exactile.yaml."""
    options = [option for option in described_options() if option.name not in GIVEN]
    content = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": {
            "name": "exactile",
            "labels": {"app.kubernetes.io/name": "exactile"},
        },
        "spec": {
            "entrypoint": "main",
            "arguments": {
                "parameters": [
                    {"name": name, "value": value, "description": description}
                    for name, value, description in OWN_PARAMETERS
                ]
                + [_parameter(option) for option in options]
            },
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "runAsGroup": 1000,
                "fsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumes": [
                _claim("images", "imagesClaim", read_only=True),
                _claim("results", "resultsClaim"),
                {"name": "temporary", "emptyDir": {"sizeLimit": "1Gi"}},
            ],
            "templates": [_main(), *_steps(options), _next()],
        },
    }
    return to_yaml(content, HEADER.format(inputs=INPUTS))


def _parameter(option: Described) -> dict[str, Any]:
    default = option.default
    value = str(default).lower() if isinstance(default, bool) else str(default or "")
    if option.kind == "number":
        value = str(default)
    parameter: dict[str, Any] = {
        "name": option.name,
        "value": value,
        "description": option.words.description,
    }
    return parameter | ({"enum": list(option.choices)} if option.choices else {})


def _claim(name: str, parameter: str, *, read_only: bool = False) -> dict[str, Any]:
    claim: dict[str, Any] = {"claimName": _workflow(parameter)}
    return {
        "name": name,
        "persistentVolumeClaim": claim | ({"readOnly": True} if read_only else {}),
    }


def _workflow(parameter: str) -> str:
    return f"{{{{workflow.parameters.{parameter}}}}}"


def _main() -> dict[str, Any]:
    vector, following = _workflow("stitchingVector"), _workflow("nextImage")
    return {
        "name": "main",
        "dag": {
            "tasks": [
                {"name": "statistics", "template": "statistics", "when": f"'{vector}' == ''"},
                _shards("segment", f"'{vector}' == ''", STATISTICS)
                | {"depends": "statistics.Succeeded"},
                _shards("mosaic", f"'{vector}' != ''", ""),
                {
                    "name": "assemble",
                    "template": "assemble",
                    "depends": "segment.Succeeded || mosaic.Succeeded",
                },
                {
                    "name": "next",
                    "template": "next",
                    "depends": "assemble.Succeeded",
                    "when": f"'{following}' != '{facts.CONTAINER}'",
                },
            ]
        },
    }


def _shards(name: str, when: str, statistics: str) -> dict[str, Any]:
    """Return the task that runs all shards, with statistics that were measured before, or none."""
    given = {"shard": f"{{{{item}}}}/{_workflow('shards')}", "statistics": statistics}
    return {
        "name": name,
        "template": "segment",
        "when": when,
        "withSequence": {"count": _workflow("shards")},
        "arguments": {"parameters": [{"name": k, "value": v} for k, v in given.items()]},
    }


def _steps(options: Iterable[Described]) -> list[dict[str, Any]]:
    theirs = {option.name: _workflow(option.name) for option in options}
    limits = {
        "cpu": _workflow("cpus"),
        "memory": _workflow("memoryLimit"),
        "nvidia.com/gpu": _workflow("gpus"),
    }
    measured = {name: theirs[name] for name in MEASURED}
    return [
        _step("statistics", {"inpDir": INPUTS, "outDir": STATISTICS} | measured),
        _step("segment", GIVEN | theirs, limits=limits, inputs=["shard", "statistics"]),
        _step("assemble", {"inpDir": PARTS, "outDir": IMAGES}),
    ]


def _step(
    command: str,
    arguments: dict[str, str],
    limits: dict[str, str] | None = None,
    inputs: Iterable[str] = (),
) -> dict[str, Any]:
    """Return a template that runs `exactile <command>`."""
    step: dict[str, Any] = {"name": command}
    if inputs:
        step["inputs"] = {"parameters": [{"name": name} for name in inputs]}
    if limits:
        patch = {"containers": [{"name": "main", "resources": {"limits": limits}}]}
        step["podSpecPatch"] = json.dumps(patch)
    own = {"image": _workflow("image"), "command": [facts.COMMAND, command]}
    return step | _pod(own, arguments)


def _next() -> dict[str, Any]:
    """Return the step after this one: any plugin, by the ENTRYPOINT of its image."""
    own = {"image": _workflow("nextImage")}
    return {"name": "next"} | _pod(own, {"inpDir": IMAGES, "outDir": NEXT})


def _pod(own: dict[str, Any], arguments: dict[str, str]) -> dict[str, Any]:
    """Return what all pods have in common; `own` is the container's image and command."""
    return {
        "retryStrategy": {
            "limit": _workflow("retries"),
            "retryPolicy": "Always",
            "expression": "asInt(lastRetry.exitCode) != 2",
            "backoff": {"duration": "10s", "factor": "2"},
        },
        "container": {
            **own,
            "args": [word for key, value in arguments.items() for word in (f"--{key}", value)],
            "env": [
                {"name": "POLUS_LOG", "value": "INFO"},
                {"name": "NUM_THREADS", "value": _workflow("threads")},
            ],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {
                    "name": "images",
                    "mountPath": INPUTS,
                    "subPath": _workflow("imagesPath"),
                    "readOnly": True,
                },
                {
                    "name": "results",
                    "mountPath": OUTPUTS,
                    "subPath": _workflow("resultsPath"),
                },
                {"name": "temporary", "mountPath": "/tmp"},
            ],
        },
    }
