"""What `argo template lint` and the controller refuse beyond the schema: the rules of Argo's own
validation (workflow/validate), in which defaults are filled in before templates are looked at."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

FIELD_NAME = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]{0,127}")
PARAMETER_NAME = re.compile(r"[-a-zA-Z0-9_]+")
TASK_NAME_IN_DEPENDS = re.compile(r"[a-zA-Z_][-a-zA-Z0-9_]*")
STATES = {"Succeeded", "Failed", "Errored", "Skipped", "Omitted", "Daemoned", "AnySucceeded"}
LOOPS = ("withItems", "withParam", "withSequence")


def violations(template: dict[str, Any], **given: str) -> list[str]:
    """Return what Argo refuses of a WorkflowTemplate that is submitted with parameters `given`."""
    spec = template["spec"]
    parameters = spec.get("arguments", {}).get("parameters", [])
    values = {p["name"]: str(p.get("value", p.get("default", ""))) for p in parameters} | given
    found = list(_parameters(parameters, values))
    templates = [_filled(entry, values) for entry in spec["templates"]]
    if spec.get("entrypoint") not in {entry["name"] for entry in templates}:
        found.append("spec.entrypoint is no template")
    for entry in templates:
        found += [f"templates.{entry['name']}: {problem}" for problem in _template(entry)]
    return found


def _parameters(parameters: list[dict[str, Any]], values: dict[str, str]) -> Iterator[str]:
    for name, count in Counter(each["name"] for each in parameters).items():
        if count > 1:
            yield f"parameter {name}: name is not unique"
        if not PARAMETER_NAME.fullmatch(name):
            yield f"parameter {name}: is no name"
    for each in parameters:
        if "enum" in each and not each["enum"]:
            yield f"parameter {each['name']}: enum should contain at least one value"
        elif "enum" in each and values[each["name"]] not in each["enum"]:
            yield f"parameter {each['name']}: value should be present in enum list"


def _filled(part: Any, values: dict[str, str]) -> Any:
    if isinstance(part, dict):
        return {key: _filled(value, values) for key, value in part.items()}
    if isinstance(part, list):
        return [_filled(value, values) for value in part]
    if isinstance(part, str):
        return re.sub(
            r"\{\{workflow\.parameters\.([-\w]+)\}\}",
            lambda m: values.get(m[1], m[0]).replace('"', r"\""),
            part,
        )
    return part


def _template(entry: dict[str, Any]) -> Iterator[str]:
    if not FIELD_NAME.fullmatch(entry["name"]):
        yield "is no name"
    kinds = [kind for kind in ("container", "script", "dag", "steps", "resource") if kind in entry]
    if len(kinds) != 1:
        yield "template type unspecified or ambiguous"
    if container := entry.get("container"):
        if not container.get("image"):
            yield "container.image may not be empty"
        places = Counter(mount["mountPath"] for mount in container.get("volumeMounts", ()))
        yield from (f"mountPath {path} is not unique" for path, n in places.items() if n > 1)
    if "podSpecPatch" in entry:
        try:
            json.loads(entry["podSpecPatch"])
        except ValueError:
            yield "podSpecPatch is no JSON"
    limit = entry.get("retryStrategy", {}).get("limit", "0")
    if not str(limit).isdecimal():
        yield f"retryStrategy.limit {limit} is no number"
    if "dag" in entry:
        yield from _dag(entry["dag"]["tasks"])


def _dag(tasks: list[dict[str, Any]]) -> Iterator[str]:
    names = [task["name"] for task in tasks]
    needs: dict[str, set[str]] = {}
    for task in tasks:
        name, depends = task["name"], task.get("depends", "")
        if names.count(name) > 1 or not TASK_NAME_IN_DEPENDS.fullmatch(name):
            yield f"task {name}: name is not unique, or is none for depends"
        if depends and "dependencies" in task:
            yield f"task {name}: cannot use both depends and dependencies"
        words = re.findall(r"[-\w]+(?:\.\w+)?", depends)
        needs[name] = {word.partition(".")[0] for word in words}
        for word in words:
            if (state := word.partition(".")[2]) and state not in STATES:
                yield f"task {name}: depends on the state {state}, which there is not"
        if unknown := needs[name] - set(names):
            yield f"task {name}: depends on {min(unknown)}, which is no task"
        loops = [key for key in LOOPS if key in task]
        if len(loops) > 1:
            yield f"task {name}: several loops"
        if "{{item" in json.dumps(task.get("arguments", {})) and not loops:
            yield f"task {name}: an item without a loop"
        if "withSequence" in task and ("count" in task["withSequence"]) == (
            "end" in task["withSequence"]
        ):
            yield f"task {name}: must have exactly one of count and end"
    done: set[str] = set()
    while ready := [name for name in needs if name not in done and needs[name] <= done]:
        done.update(ready)
    if len(done) < len(needs):
        yield f"a cycle of {', '.join(sorted(needs.keys() - done))}"
