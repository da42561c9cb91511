"""argo/exactile.yaml: valid under a strict schema, and every name in it is of something there."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from argo_rules import violations
from schemas import broken_references, load, problems, strict

ROOT = Path(__file__).parents[2]
TEMPLATE = yaml.safe_load((ROOT / "argo" / "exactile.yaml").read_text(encoding="utf-8"))
STEPS = {entry["name"]: entry for entry in TEMPLATE["spec"]["templates"]}


@pytest.fixture(scope="module")
def schema(shared: Path) -> dict[str, Any]:
    whole = strict(load(shared, "argo-workflows.schema.json"))
    # Errors under `oneOf` name nothing; the kind is known.
    kind = f"#/definitions/io.argoproj.workflow.v1alpha1.{TEMPLATE['kind']}"
    return {"$ref": kind, "definitions": whole["definitions"]}


def test_the_template_is_valid_with_every_definition_closed(schema: dict[str, Any]) -> None:
    assert problems(schema, TEMPLATE) == []


def test_a_misspelt_field_is_found_at_any_depth(schema: dict[str, Any]) -> None:
    def misspell(template: dict[str, Any]) -> None:
        template["spec"]["templates"][1]["container"]["volumeMounts"][0]["readonly"] = True

    assert any("readonly" in problem for problem in problems(schema, changed(misspell)))


def test_everything_that_is_named_exists() -> None:
    assert broken_references(TEMPLATE) == []


def _rename(key: str, value: str) -> Callable[[dict[str, Any]], None]:
    def change(template: dict[str, Any]) -> None:
        for task in template["spec"]["templates"][0]["dag"]["tasks"]:
            if key in task:
                task[key] = value

    return change


def _forget_volume(template: dict[str, Any]) -> None:
    template["spec"]["volumes"].pop()


def _forget_parameter(template: dict[str, Any]) -> None:
    template["spec"]["arguments"]["parameters"].pop()


def _forget_argument(template: dict[str, Any]) -> None:
    template["spec"]["templates"][0]["dag"]["tasks"][1].pop("arguments")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_rename("template", "elsewhere"), "no template elsewhere"),
        (_rename("depends", "elsewhere.Succeeded"), "depends on no task elsewhere"),
        (_rename("when", "{{workflow.parameters.elsewhere}}"), "no parameter workflow.param"),
        (_rename("when", "{{tasks}}"), "{{tasks}} is nothing"),
        (_forget_volume, "no volume temporary"),
        (_forget_parameter, "no parameter workflow.parameters.preview"),
        (_forget_argument, "segment is not given shard"),
    ],
)
def test_a_name_of_nothing_is_found(
    change: Callable[[dict[str, Any]], None], expected: str
) -> None:
    assert any(expected in problem for problem in broken_references(changed(change)))


def changed(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    template = copy.deepcopy(TEMPLATE)
    change(template)
    return template


def test_limits_are_json_once_the_parameters_are_filled_in() -> None:
    patch = json.loads(STEPS["segment"]["podSpecPatch"])
    [container] = patch["containers"]
    assert container["name"] == "main"
    assert set(container["resources"]["limits"]) == {"cpu", "memory", "nvidia.com/gpu"}


def test_every_step_is_retried_and_none_for_a_wrong_option() -> None:
    for name in ("statistics", "segment", "assemble", "next"):
        strategy = STEPS[name]["retryStrategy"]
        assert strategy["limit"] == "{{workflow.parameters.retries}}"
        assert strategy["expression"] == "asInt(lastRetry.exitCode) != 2"


def test_no_step_may_write_anything_but_results_and_temporary_files() -> None:
    for step in STEPS.values():
        if "container" not in step:
            continue
        security = step["container"]["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        writable = {m["name"] for m in step["container"]["volumeMounts"] if not m.get("readOnly")}
        assert writable == {"results", "temporary"}
    assert TEMPLATE["spec"]["securityContext"]["runAsNonRoot"] is True


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"stitchingVector": "/data/inputs/vectors"},
        {"nextImage": "polus/next:1", "gpus": "1", "image": "exactile/exactile-cuda"},
    ],
    ids=str,
)
def test_argo_takes_the_template_as_it_is_and_with_what_people_give(given: dict[str, str]) -> None:
    assert violations(TEMPLATE, **given) == []


def _task(name: str) -> dict[str, Any]:
    (found,) = [task for task in STEPS["main"]["dag"]["tasks"] if task["name"] == name]
    return found


def _break(change: str) -> Callable[[dict[str, Any]], None]:
    def make(template: dict[str, Any]) -> None:
        parameters = {p["name"]: p for p in template["spec"]["arguments"]["parameters"]}
        tasks = {t["name"]: t for t in template["spec"]["templates"][0]["dag"]["tasks"]}
        match change:
            case "image":
                parameters["nextImage"]["value"] = ""
            case "enum":
                parameters["engine"]["value"] = "fastest"
            case "cycle":
                tasks["statistics"]["depends"] = "assemble.Succeeded"
            case "state":
                tasks["next"]["depends"] = "assemble.Done"
            case "item":
                del tasks["segment"]["withSequence"]

    return make


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("image", "templates.next: container.image may not be empty"),
        ("enum", "parameter engine: value should be present in enum list"),
        ("cycle", "templates.main: a cycle of assemble"),
        ("state", "templates.main: task next: depends on the state Done"),
        ("item", "templates.main: task segment: an item without a loop"),
    ],
)
def test_what_argo_refuses_is_found(change: str, expected: str) -> None:
    assert any(expected in problem for problem in violations(changed(_break(change))))


def test_mosaics_are_segmented_without_the_statistics_that_are_refused_beside_them() -> None:
    for name, condition, statistics in (
        ("segment", "==", "/data/outputs/statistics"),
        ("mosaic", "!=", ""),
    ):
        task = _task(name)
        assert task["when"] == f"'{{{{workflow.parameters.stitchingVector}}}}' {condition} ''"
        given = {each["name"]: each["value"] for each in task["arguments"]["parameters"]}
        assert given["statistics"] == statistics
    assert _task("statistics")["when"] == _task("segment")["when"]
    assert _task("assemble")["depends"] == "segment.Succeeded || mosaic.Succeeded"
    words = STEPS["segment"]["container"]["args"]
    assert words[words.index("--statistics") + 1] == "{{inputs.parameters.statistics}}"
    assert words[words.index("--mosaicOutput") + 1] == "image"  # a shard makes parts of it


def test_all_steps_have_the_same_number_of_threads() -> None:
    for step in STEPS.values():
        if "container" in step:
            threads = {"name": "NUM_THREADS", "value": "{{workflow.parameters.threads}}"}
            assert threads in step["container"]["env"]


@pytest.mark.parametrize("cuda", [False, True])
def test_only_the_image_with_cuda_is_said_to_need_a_gpu(cuda: bool) -> None:
    suffix = "-cuda" if cuda else ""
    plugin = json.loads((ROOT / f"plugin{suffix}.json").read_text(encoding="utf-8"))
    tool = yaml.safe_load((ROOT / f"ict{suffix}.yaml").read_text(encoding="utf-8"))
    cwl = yaml.safe_load((ROOT / f"exactile{suffix}.cwl").read_text(encoding="utf-8"))
    assert plugin["resourceRequirements"]["gpu"] is tool["hardware"]["gpu"]["enabled"] is cuda
    images = {
        plugin["containerId"],
        tool["container"],
        cwl["requirements"]["DockerRequirement"]["dockerPull"],
    }
    (image,) = images
    assert image.endswith("-cuda") is cuda
