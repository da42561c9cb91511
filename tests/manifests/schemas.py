"""The schemas of others, made strict where they let mistakes pass, and what they do not check."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema

_REFERENCE = re.compile(r"\{\{\s*([^}]*?)\s*\}\}")
_PARAMETER = re.compile(r"(workflow|inputs)\.parameters\.([-\w]+)")


def load(shared: Path, name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((shared / "schemas" / name).read_text(encoding="utf-8"))
    return schema


def problems(schema: dict[str, Any], document: Any) -> list[str]:
    """Return what `schema` has against `document`, each by its place."""
    validator = jsonschema.Draft202012Validator(schema)
    if "draft-07" in schema.get("$schema", ""):
        validator = jsonschema.Draft7Validator(schema)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with every object closed that names its properties.

    A definition that has no properties, such as a quantity or a map, stays as it is.
    """

    def close(part: Any) -> Any:
        if isinstance(part, list):
            return [close(item) for item in part]
        if not isinstance(part, dict):
            return part
        closed = {key: close(value) for key, value in part.items()}
        if isinstance(part.get("properties"), dict) and "type" in part:
            closed.setdefault("additionalProperties", False)
        return closed

    result: dict[str, Any] = close(schema)
    return result


def broken_references(template: dict[str, Any]) -> list[str]:
    """Return what a WorkflowTemplate names that does not exist: its schema does not look.

    Templates, parameters of the workflow and of a template, arguments that a template takes or
    needs, tasks that others depend on, and volumes.
    """
    spec = template["spec"]
    templates = {entry["name"]: entry for entry in spec["templates"]}
    workflow = _names(spec.get("arguments", {}).get("parameters"))
    volumes = _names(spec.get("volumes"))
    found: list[str] = []
    if spec["entrypoint"] not in templates:
        found.append(f"entrypoint: no template {spec['entrypoint']}")
    for name in _repeated([entry["name"] for entry in spec["templates"]]):
        found.append(f"two templates {name}")
    for name, entry in templates.items():
        inputs = _names(entry.get("inputs", {}).get("parameters"))
        known = {"workflow": workflow, "inputs": inputs}
        for text in _texts(entry):
            for reference in _REFERENCE.findall(text):
                match = _PARAMETER.fullmatch(reference)
                if match is None and reference != "item":
                    found.append(f"{name}: {{{{{reference}}}}} is nothing")
                elif match is not None and match[2] not in known[match[1]]:
                    found.append(f"{name}: no parameter {match[0]}")
        for mount in entry.get("container", {}).get("volumeMounts", ()):
            if mount["name"] not in volumes | _names(entry.get("volumes")):
                found.append(f"{name}: no volume {mount['name']}")
        tasks = entry.get("dag", {}).get("tasks", ())
        for task in tasks:
            found += [f"{name}: {task['name']}: {p}" for p in _task(task, _names(tasks), templates)]
    return found


def _task(task: dict[str, Any], tasks: set[str], templates: dict[str, Any]) -> Iterator[str]:
    words = {word.partition(".")[0] for word in re.findall(r"[-\w.]+", task.get("depends", ""))}
    for name in (words | set(task.get("dependencies", ()))) - tasks:
        yield f"depends on no task {name}"
    called = templates.get(task["template"])
    if called is None:
        yield f"no template {task['template']}"
        return
    needed = {p["name"] for p in called.get("inputs", {}).get("parameters", ()) if "value" not in p}
    given = _names(task.get("arguments", {}).get("parameters"))
    for name in sorted(needed - given):
        yield f"{task['template']} is not given {name}"
    for name in sorted(given - _names(called.get("inputs", {}).get("parameters"))):
        yield f"{task['template']} does not take {name}"


def _names(entries: Any) -> set[str]:
    return {entry["name"] for entry in entries or ()}


def _repeated(names: list[str]) -> set[str]:
    return {name for name in names if names.count(name) > 1}


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict):
        for value in part.values():
            yield from _texts(value)
    elif isinstance(part, list):
        for item in part:
            yield from _texts(item)
