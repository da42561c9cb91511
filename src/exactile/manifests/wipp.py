"""plugin.json and plugin-cuda.json: the manifests of WIPP, as polus-tools extends them.

The extension is needed for one thing: `genericData`, the only kind of input that a model's folder
or any other folder can be. Every input has a `ui` entry, without which WIPP's form breaks, and only
the default there is used. There is no baseCommand: the image's ENTRYPOINT is the command.
"""

from __future__ import annotations

from typing import Any, assert_never

from exactile import __version__
from exactile.manifests import facts
from exactile.manifests.described import Described, described_options
from exactile.manifests.options import Role
from exactile.manifests.text import to_json

COLLECTIONS: dict[Role, str] = {
    "images": "collection",
    "results": "collection",
    "model": "genericData",
    "folder": "genericData",
    "vector": "stitchingVector",
}
"""WIPP's kind of what a path leads to."""


def plugin_json(*, cuda: bool = False) -> str:
    """Return the text of plugin.json, or of that for the image with `cuda`."""
    options = described_options()
    inputs = [option for option in options if option.role != "results"]
    outputs = [option for option in options if option.role == "results"]
    return to_json(
        {
            "name": facts.NAME + "-cuda" * cuda,
            "version": __version__,
            "title": facts.TITLE + " (GPU)" * cuda,
            "description": facts.DESCRIPTION,
            "author": facts.AUTHOR,
            "institution": facts.AUTHOR,
            "citation": facts.CITATION,
            "containerId": facts.CUDA_CONTAINER if cuda else facts.CONTAINER,
            "inputs": [_input(option) for option in inputs],
            "outputs": [
                {
                    "name": option.name,
                    "type": _kind(option),
                    "description": option.words.description,
                }
                for option in outputs
            ],
            "ui": [_field(option) for option in inputs],
            "resourceRequirements": {
                "ramMin": facts.MEMORY_MIB,
                "coresMin": facts.CORES,
                "cpuAVX": True,
                "cpuAVX2": True,
                "gpu": cuda,
            },
        }
    )


def _input(option: Described) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": option.name,
        "type": _kind(option),
        "description": option.words.description,
        "required": option.required,
    }
    if option.choices:
        described["options"] = {"values": list(option.choices)}
    return described


def _kind(option: Described) -> str:
    match option.kind:
        case "path":
            assert option.role is not None, "a path has a role"
            return COLLECTIONS[option.role]
        case "flag":
            return "boolean"
        case "choice":
            return "enum"
        case "number":
            return "number"
        case "text":
            return "string"
        case _:
            assert_never(option.kind)


def _field(option: Described) -> dict[str, Any]:
    field: dict[str, Any] = {
        "key": f"inputs.{option.name}",
        "title": option.words.title,
        "description": option.words.hint,
    }
    if option.default is not None:
        field["default"] = option.default
    if option.words.hidden:
        field["hidden"] = True
    return field
